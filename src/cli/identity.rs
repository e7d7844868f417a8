//! What makes a job this job: the file and the options that may not change.

use super::args::IdentityArgs;
use super::error::{CliError, CliResult};
use super::resolve;
use crate::model::escape::shown;
use crate::model::{
    Encoding, ExistingPolicy, JobOptions, OrgKey, OrgMode, Reading, Rename, TargetKind,
};
use crate::source::profile::{self, ProfileChoice};
use std::fmt::Display;
use std::path::Path;

/// Refuses options that differ from the stored ones. What is not given is not compared.
pub fn check(args: &IdentityArgs, stored: &JobOptions) -> CliResult<()> {
    let given_target = args.target.map(TargetKind::from);
    same("--target", given_target.as_ref(), &stored.target)?;
    if let Some(text) = &args.base_url {
        let given = resolve::base_url(text, given_target.unwrap_or(stored.target))?;
        same("--base-url", Some(&given), &stored_url(stored))?;
    }
    check_organizations(args, stored)?;
    let by_name = stored.org_mode == OrgMode::ColumnsByName;
    flag("--orgs-by-name", args.orgs_by_name, by_name)?;
    flag("--create-orgs", args.create_orgs, stored.create_orgs)?;
    let on_existing = args
        .on_existing
        .map(|arg| ExistingPolicy::from(arg).as_str());
    same(
        "--on-existing",
        on_existing.as_ref(),
        &stored.on_existing.as_str(),
    )?;
    flag("--reactivate", args.reactivate, stored.reactivate)?;
    flag(
        "--require-membership",
        args.require_membership,
        stored.require_membership,
    )?;
    check_profile(args, stored)?;
    let hashes = args.password_hashes.as_deref();
    let hashes = hashes.map(resolve::absolute).transpose()?;
    same_path(
        "--password-hashes",
        hashes.as_deref(),
        stored.password_hashes.as_deref(),
    )?;
    let parameters = resolve::hash_parameters(args)?;
    same_path(
        "--hash-parameters",
        parameters.as_deref(),
        stored.hash_parameters.as_deref(),
    )?;
    same("--chunk-size", args.chunk_size.as_ref(), &stored.chunk_size)
}

/// Refuses another way to read the file than the stored one. What is not given is not compared.
pub fn check_reading(args: &IdentityArgs, stored: &Reading) -> CliResult<()> {
    let encoding = args.encoding.map(Encoding::from);
    same("--encoding", encoding.as_ref(), &stored.encoding)?;
    // Rows that were made from an export have commas, whatever it had.
    if !stored.converted {
        same("--delimiter", args.delimiter.as_ref(), &stored.delimiter)?;
    }
    if args.map.is_empty() {
        return Ok(());
    }
    let given = listed(&resolve::renames(&args.map)?);
    same("--map", Some(&given), &listed(&stored.renames))
}

fn listed(renames: &[Rename]) -> String {
    let listed: Vec<String> = renames.iter().map(Rename::to_string).collect();
    if listed.is_empty() {
        "not given".to_owned()
    } else {
        listed.join(", ")
    }
}

/// The header of the same file is recognised as it was: `auto` is no difference.
fn check_profile(args: &IdentityArgs, stored: &JobOptions) -> CliResult<()> {
    let given = match resolve::profile(args)? {
        None | Some(ProfileChoice::Detect) => return Ok(()),
        Some(ProfileChoice::Off) => profile::NONE.to_owned(),
        Some(ProfileChoice::Use(profile)) => profile.id.clone(),
    };
    same("--profile", Some(&given), &stored.profile)
}

/// Refuses to continue a job that goes elsewhere than this command line says, defaults included:
/// without `--target` nothing may leave the machine.
pub fn check_destination(resolved: &JobOptions, stored: &JobOptions) -> CliResult<()> {
    same("--target", Some(&resolved.target), &stored.target)?;
    same(
        "--base-url",
        Some(&stored_url(resolved)),
        &stored_url(stored),
    )
}

/// Refuses to continue a job with another file.
pub fn check_file(given: &Path, stored: &Path) -> CliResult<()> {
    if given == stored {
        return Ok(());
    }
    let [given, stored] = [given, stored].map(|path| path.display().to_string());
    Err(differs("the CSV", &given, &stored))
}

fn check_organizations(args: &IdentityArgs, stored: &JobOptions) -> CliResult<()> {
    let Some(OrgMode::Single { key, name }) = resolve::org_mode(args)? else {
        return Ok(());
    };
    let option = match key {
        OrgKey::Id(_) => "--org-id",
        OrgKey::External(_) | OrgKey::Name(_) => "--org-external-id",
    };
    match &stored.org_mode {
        OrgMode::Columns | OrgMode::ColumnsByName => {
            Err(differs(option, key.as_str(), "the file's own columns"))
        }
        OrgMode::Single {
            key: stored_key,
            name: stored_name,
        } => {
            same(option, Some(&key.to_string()), &stored_key.to_string())?;
            let words = stored_name.as_deref().unwrap_or("not given");
            match name {
                Some(name) => same("--org-name", Some(&name.as_str()), &words),
                None => Ok(()),
            }
        }
    }
}

fn stored_url(options: &JobOptions) -> String {
    options
        .base_url
        .clone()
        .unwrap_or_else(|| "the automatic sandbox".to_owned())
}

fn flag(option: &str, given: bool, stored: bool) -> CliResult<()> {
    let word = |on: bool| if on { "on" } else { "off" };
    same(option, given.then_some(word(true)).as_ref(), &word(stored))
}

fn same_path(option: &str, given: Option<&Path>, stored: Option<&Path>) -> CliResult<()> {
    let shown = |path: &Path| path.display().to_string();
    let stored = stored.map_or_else(|| "not given".to_owned(), shown);
    same(option, given.map(shown).as_ref(), &stored)
}

fn same<T: PartialEq + Display>(option: &str, given: Option<&T>, stored: &T) -> CliResult<()> {
    match given {
        Some(given) if given != stored => {
            Err(differs(option, &given.to_string(), &stored.to_string()))
        }
        Some(_) | None => Ok(()),
    }
}

fn differs(option: &str, given: &str, stored: &str) -> CliError {
    CliError::usage(
        "job_identity",
        format!(
            "{option} is `{}` here and `{}` in the job: a job keeps what it was started with",
            shown(given),
            shown(stored)
        ),
    )
    .hint(format!(
        "leave {option} as it was, or start another job with `import --fresh`"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::args::{ExistingArg, TargetArg};
    use super::*;

    fn stored() -> JobOptions {
        resolve::job_options(&IdentityArgs {
            org_external_id: Some("acme".to_owned()),
            ..IdentityArgs::default()
        })
        .unwrap()
    }

    #[test]
    fn what_is_not_given_or_equal_is_no_difference() {
        assert!(check(&IdentityArgs::default(), &stored()).is_ok());
        let equal = IdentityArgs {
            target: Some(TargetArg::Sandbox),
            org_external_id: Some("acme".to_owned()),
            create_orgs: true,
            on_existing: Some(ExistingArg::Link),
            chunk_size: Some(250),
            profile: Some("none".to_owned()),
            ..IdentityArgs::default()
        };
        assert!(check(&equal, &stored()).is_ok());
    }

    fn with(change: impl FnOnce(&mut IdentityArgs)) -> IdentityArgs {
        let mut args = IdentityArgs::default();
        change(&mut args);
        args
    }

    #[test]
    fn every_difference_names_the_option_and_both_values() {
        let text = |text: &str| Some(text.to_owned());
        let table = [
            (
                with(|a| a.target = Some(TargetArg::Workos)),
                ["--target", "workos", "sandbox"],
            ),
            (
                with(|a| a.base_url = text("http://127.0.0.1:1")),
                ["--base-url", "http://127.0.0.1:1", "automatic sandbox"],
            ),
            (
                with(|a| a.org_id = text("org_1")),
                ["--org-id", "org_1", "acme"],
            ),
            (
                with(|a| a.org_external_id = text("other")),
                ["--org-external-id", "other", "acme"],
            ),
            (
                with(|a| (a.org_external_id, a.org_name) = (text("acme"), text("Acme"))),
                ["--org-name", "Acme", "not given"],
            ),
            (
                with(|a| a.on_existing = Some(ExistingArg::Skip)),
                ["--on-existing", "skip", "link"],
            ),
            (with(|a| a.reactivate = true), ["--reactivate", "on", "off"]),
            (
                with(|a| a.require_membership = true),
                ["--require-membership", "on", "off"],
            ),
            (
                with(|a| a.profile = text("clerk")),
                ["--profile", "clerk", "none"],
            ),
            (
                with(|a| a.chunk_size = Some(5)),
                ["--chunk-size", "`5`", "`250`"],
            ),
        ];
        for (args, words) in table {
            let error = check(&args, &stored()).unwrap_err();
            assert_eq!(error.exit().as_u8(), 2);
            for word in words {
                assert!(
                    error.rendered().contains(word),
                    "{word}: {}",
                    error.rendered()
                );
            }
        }
    }

    #[test]
    fn a_file_is_read_as_it_was() {
        use crate::cli::args::EncodingArg;
        use crate::model::Delimiter;
        let rename = |theirs: &str| Rename {
            theirs: theirs.to_owned(),
            known: "email".to_owned(),
        };
        let stored = Reading {
            delimiter: Delimiter::Semicolon,
            renames: vec![rename("Mail")],
            ..Reading::default()
        };
        for same in [
            IdentityArgs::default(),
            with(|a| a.delimiter = Some(Delimiter::Semicolon)),
            with(|a| a.encoding = Some(EncodingArg::Utf8)),
            with(|a| a.map = vec![rename("Mail")]),
        ] {
            assert!(check_reading(&same, &stored).is_ok());
        }
        for (other, words) in [
            (
                with(|a| a.delimiter = Some(Delimiter::Tab)),
                ["--delimiter", "tab", "semicolon"],
            ),
            (
                with(|a| a.encoding = Some(EncodingArg::Windows1252)),
                ["--encoding", "windows-1252", "utf-8"],
            ),
            (
                with(|a| a.map = vec![rename("Post")]),
                ["--map", "Post=email", "Mail=email"],
            ),
        ] {
            let error = check_reading(&other, &stored).unwrap_err();
            assert_eq!(error.exit().as_u8(), 2);
            for word in words {
                assert!(error.rendered().contains(word), "{}", error.rendered());
            }
        }
    }

    #[test]
    fn a_job_does_not_go_elsewhere_nor_take_another_file() {
        let base_url = Some("https://x.org".to_owned());
        let elsewhere = JobOptions {
            base_url,
            ..stored()
        };
        assert!(check_destination(&stored(), &elsewhere).is_err());
        assert!(check_destination(&stored(), &stored()).is_ok());
        assert!(check_file(Path::new("/a.csv"), Path::new("/b.csv")).is_err());
        assert!(check_file(Path::new("/a.csv"), Path::new("/a.csv")).is_ok());
    }
}
