//! The file against a plain map: whatever was added is found, nothing else is.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

const KEY: KnownKey = KnownKey([1, 2, 3, 4]);

fn user(n: u32, email: &str, external_id: Option<&str>) -> Entity {
    Entity {
        id: format!("user_{n}"),
        email: Some(email.to_owned()),
        external_id: external_id.map(str::to_owned),
        created_at: Some(ServerMs(i64::from(n))),
        ..Entity::default()
    }
}

fn built(folder: &Path, fill: impl FnOnce(&mut KnownBuilder)) -> KnownUsers {
    let mut builder = KnownBuilder::new(folder, KEY).unwrap();
    fill(&mut builder);
    let mut merge = builder.merge(3).unwrap();
    while merge.step().unwrap() {}
    merge.finish().unwrap();
    KnownUsers::open(folder, 3, KEY).unwrap()
}

#[test]
fn a_user_is_found_by_either_name_and_shows_what_is_the_rows_own() {
    let folder = tempfile::tempdir().unwrap();
    let known = built(folder.path(), |builder| {
        builder.user(&user(1, " Ann@X.org", Some("7"))).unwrap();
        builder.user(&user(2, "bob@x.org", None)).unwrap();
    });
    let found = |email: &str, external_id| {
        let found = known.user(email, external_id).unwrap()?;
        Some((found.id, found.email, found.external_id))
    };
    let text = |text: &str| Some(text.to_owned());
    let ann = Some(("user_1".to_owned(), text("ann@x.org"), text("7")));
    assert_eq!(found("ann@x.org", Some("7")), ann);
    // The external id wins, and the email it comes with is another.
    let (id, email, external) = found("bob@x.org", Some("7")).unwrap();
    assert_eq!((id.as_str(), external), ("user_1", text("7")));
    assert_ne!(email, text("bob@x.org"));
    // The external id that comes with the email is another, or none.
    let (_, email, external) = found("ann@x.org", Some("8")).unwrap();
    assert_eq!(email, text("ann@x.org"));
    assert!(external.is_some() && external != text("8"));
    assert_eq!(found("ann@x.org", None).unwrap().0, "user_1");
    let bob = ("user_2".to_owned(), text("bob@x.org"), None);
    assert_eq!(found("bob@x.org", Some("9")), Some(bob));
    assert_eq!(found("eve@x.org", Some("9")), None);
}

#[test]
fn what_two_have_is_known_of_neither_and_what_is_seen_twice_is_known_once() {
    let folder = tempfile::tempdir().unwrap();
    let known = built(folder.path(), |builder| {
        builder.user(&user(1, "a@x.org", None)).unwrap();
        builder.user(&user(2, "A@x.org", None)).unwrap();
        for _ in 0..2 {
            builder.user(&user(3, "b@x.org", Some("3"))).unwrap();
        }
    });
    assert_eq!(known.user("a@x.org", None).unwrap(), None);
    assert_eq!(known.user("b@x.org", None).unwrap().unwrap().id, "user_3");
}

#[test]
fn nobody_is_named_in_it_and_nobody_else_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    built(folder.path(), |builder| {
        builder
            .user(&user(1, "ann@x.org", Some("payroll-77")))
            .unwrap();
    });
    let file = path(folder.path(), 3);
    let bytes = fs::read(&file).unwrap();
    for word in ["ann", "x.org", "payroll-77"] {
        let at = bytes
            .windows(word.len())
            .position(|it| it == word.as_bytes());
        assert_eq!(at, None, "{word}");
    }
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    forget(folder.path());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_of_another_run_or_a_part_of_one_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    built(folder.path(), |builder| {
        builder.user(&user(1, "ann@x.org", None)).unwrap();
    });
    let other = KnownKey([9; 4]);
    KnownUsers::open(folder.path(), 3, other).unwrap_err();
    KnownUsers::open(folder.path(), 4, KEY).unwrap_err();
    let file = path(folder.path(), 3);
    let bytes = fs::read(&file).unwrap();
    for cut in [0, 5, bytes.len() - 1] {
        fs::write(&file, &bytes[..cut]).unwrap();
        KnownUsers::open(folder.path(), 3, KEY).unwrap_err();
    }
}

#[test]
fn an_id_that_is_too_long_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let known = built(folder.path(), |builder| {
        let long = Entity {
            id: "u".repeat(ID_BYTES_MAX + 1),
            ..user(1, "ann@x.org", None)
        };
        builder.user(&long).unwrap();
    });
    assert_eq!(known.user("ann@x.org", None).unwrap(), None);
}

#[test]
fn several_runs_become_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let count = u32::try_from(RUN_RECORDS).unwrap() + 500;
    let known = built(folder.path(), |builder| {
        for n in 0..count {
            let email = format!("{n}@x.org");
            builder
                .user(&user(n, &email, Some(&n.to_string())))
                .unwrap();
        }
        assert!(builder.runs.len() > 1);
    });
    for n in (0..count).step_by(97) {
        let found = known.user(&format!("{n}@x.org"), None).unwrap();
        assert_eq!(found.unwrap().id, format!("user_{n}"));
    }
    assert_eq!(known.user("no@x.org", Some("no")).unwrap(), None);
}

proptest! {
    #![proptest_config(crate::fuzz::cases(64))]

    #[test]
    fn memberships_are_found_and_nothing_else_is(
        pairs in prop::collection::btree_map((0..40_u32, 0..8_u32), 0..3_usize, 0..200),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let statuses = ["active", "inactive", "pending"];
        let known = built(folder.path(), |builder| {
            for ((user, org), status) in &pairs {
                let entity = Entity {
                    id: format!("om_{user}_{org}"),
                    status: Some(statuses[*status].to_owned()),
                    ..Entity::default()
                };
                builder.membership(&user.to_string(), &org.to_string(), &entity).unwrap();
            }
        });
        let all: BTreeMap<_, _> = pairs;
        for user in 0..40 {
            for org in 0..8 {
                let found = known.membership(&user.to_string(), &org.to_string()).unwrap();
                let told = found.map(|found| (found.id, found.status.unwrap()));
                let expected = all.get(&(user, org)).map(|status| {
                    (format!("om_{user}_{org}"), statuses[*status].to_owned())
                });
                prop_assert_eq!(told, expected);
            }
        }
    }
}
