//! The organization machine against scripts.

use super::*;
use crate::worker::reconcile::CLOCK_MARGIN_MS;
use proptest::prelude::*;

const INTENT: ServerMs = ServerMs(1_000 + CLOCK_MARGIN_MS);

fn external() -> OrgKey {
    OrgKey::External("acme".into())
}

fn create(suspect: bool) -> OrgMachine {
    OrgMachine::create(external(), "Acme".to_owned(), INTENT, suspect)
}

fn org(created_at: Option<i64>) -> Verdict {
    Verdict::Ok(Box::new(Entity {
        id: "org_1".to_owned(),
        created_at: created_at.map(ServerMs),
        ..Entity::default()
    }))
}

fn rejection(code: &str) -> Rejection {
    Rejection {
        code: code.to_owned(),
        message: "write to bob@x.org".to_owned(),
        http_status: Some(400),
        request_id: None,
    }
}

fn exists() -> Verdict {
    Verdict::Exists(rejection("external_id_already_used"))
}

fn unclear() -> Verdict {
    Verdict::Ambiguous(rejection("http_500"))
}

fn times(n: usize, round: &[Verdict]) -> Vec<Verdict> {
    std::iter::repeat_n(round, n).flatten().cloned().collect()
}

fn play(mut machine: OrgMachine, script: Vec<Verdict>) -> (String, OrgVerdict) {
    let mut trace = Vec::new();
    let mut verdicts = script.into_iter();
    let mut alive = 0;
    let mut action = machine.start();
    loop {
        action = match action {
            OrgAction::Send(op) => {
                trace.push(op.name().to_owned());
                alive += 1;
                let Some(verdict) = verdicts.next() else {
                    panic!("the script ends too early: {trace:?}");
                };
                machine.on_verdict(verdict, alive)
            }
            OrgAction::Backoff(wait) => {
                trace.push(format!("{}ms", wait.as_millis()));
                machine.on_timer()
            }
            OrgAction::Done(verdict) => {
                assert_eq!(verdicts.next(), None, "{trace:?}");
                return (trace.join(" "), verdict);
            }
            OrgAction::Halt(reason) => panic!("halted: {reason:?}"),
        };
    }
}

fn in_short(verdict: &OrgVerdict) -> String {
    match verdict {
        OrgVerdict::Ready { id, origin } => format!("{id} {}", origin.as_str()),
        OrgVerdict::Absent => "absent".to_owned(),
        OrgVerdict::Failed { code, parked, .. } => {
            format!("{} {code}", if *parked { "parked" } else { "failed" })
        }
    }
}

fn check(machine: OrgMachine, script: Vec<Verdict>, trace: &str, verdict: &str) {
    let (sent, told) = play(machine, script);
    assert_eq!((sent.as_str(), in_short(&told).as_str()), (trace, verdict));
}

const FIND: &str = "find_org_by_external_id";

#[test]
fn a_look_up_finds_or_does_not() {
    let by_id = || OrgMachine::lookup(OrgKey::Id("org_1".into()));
    let by_external_id = || OrgMachine::lookup(external());
    check(by_id(), vec![org(None)], "get_org", "org_1 before");
    check(
        by_id(),
        vec![Verdict::Absent],
        "get_org",
        "failed organization_not_found",
    );
    check(
        by_external_id(),
        vec![org(Some(9_999))],
        FIND,
        "org_1 before",
    );
    check(by_external_id(), vec![Verdict::Absent], FIND, "absent");
}

#[test]
fn an_unclear_look_up_is_repeated_eight_times() {
    let script = vec![unclear(), org(None)];
    let trace = "get_org 500ms get_org";
    let machine = OrgMachine::lookup(OrgKey::Id("org_1".into()));
    check(machine, script, trace, "org_1 before");
    let (trace, told) = play(OrgMachine::lookup(external()), times(8, &[unclear()]));
    assert_eq!(trace.matches(FIND).count(), 8);
    assert_eq!(in_short(&told), "parked server_error");
}

#[test]
fn a_create_that_is_answered_is_ours() {
    check(
        create(false),
        vec![org(None)],
        "create_org",
        "org_1 answered",
    );
}

#[test]
fn what_exists_was_there_before_unless_ours_was_unclear() {
    let found = |created_at| vec![exists(), org(created_at)];
    let trace = format!("create_org {FIND}");
    check(create(false), found(Some(1_000)), &trace, "org_1 before");
    let trace = format!("create_org 500ms {FIND}");
    let found = |created_at| vec![unclear(), org(created_at)];
    check(create(false), found(Some(1_000)), &trace, "org_1 dated");
    check(create(false), found(Some(999)), &trace, "org_1 before");
    check(create(false), found(None), &trace, "org_1 before");
}

#[test]
fn a_suspect_create_looks_first() {
    check(create(true), vec![org(Some(1_000))], FIND, "org_1 dated");
    check(create(true), vec![org(Some(999))], FIND, "org_1 before");
    let script = vec![Verdict::Absent, org(None)];
    check(
        create(true),
        script,
        &format!("{FIND} create_org"),
        "org_1 answered",
    );
    let script = vec![Verdict::Absent, exists(), org(Some(1_000))];
    check(
        create(true),
        script,
        &format!("{FIND} create_org {FIND}"),
        "org_1 dated",
    );
}

#[test]
fn an_unclear_create_is_looked_up_then_sent_again_then_parked() {
    let script = vec![unclear(), Verdict::Absent, org(None)];
    let trace = format!("create_org 500ms {FIND} create_org");
    check(create(false), script, &trace, "org_1 answered");
    let (trace, told) = play(create(false), times(8, &[unclear(), Verdict::Absent]));
    assert_eq!(trace.matches("create_org").count(), 8);
    assert!(trace.ends_with(FIND), "{trace}");
    assert_eq!(in_short(&told), "parked server_error");
}

#[test]
fn an_outage_parks_nothing() {
    let mut machine = create(false);
    let mut action = machine.start();
    for _ in 0..1_000 {
        action = match action {
            OrgAction::Send(_) => machine.on_verdict(unclear(), 5),
            OrgAction::Backoff(_) => machine.on_timer(),
            other => panic!("{other:?}"),
        };
    }
}

#[test]
fn what_exists_but_is_invisible_is_parked_at_last() {
    let mut round = vec![exists()];
    round.extend(times(4, &[Verdict::Absent]));
    let (trace, told) = play(create(false), times(8, &round));
    let once = format!("create_org {FIND} 500ms {FIND} 1500ms {FIND} 3000ms {FIND}");
    assert_eq!(trace, [once.as_str(); 8].join(" "));
    assert_eq!(in_short(&told), "parked exists_but_invisible");
}

#[test]
fn a_refusal_fails_in_clean_words_and_is_checked_when_ours_may_be_there() {
    let refused = || Verdict::Rejected(rejection("invalid_request_parameters"));
    let (trace, told) = play(create(false), vec![refused()]);
    assert_eq!(trace, "create_org");
    let OrgVerdict::Failed {
        message,
        http_status,
        parked: false,
        ..
    } = told
    else {
        panic!("{told:?}");
    };
    assert_eq!((message.as_str(), http_status), ("write to …", Some(400)));

    let trace = format!("create_org 500ms {FIND} create_org {FIND}");
    let script = |last| vec![unclear(), Verdict::Absent, refused(), last];
    let failed = "failed invalid_request_parameters";
    let found = script(org(Some(1_000)));
    check(create(false), found, &trace, "org_1 dated");
    let mut nothing = script(Verdict::Absent);
    nothing.extend(times(3, &[Verdict::Absent]));
    let trace = format!("{trace} 500ms {FIND} 1500ms {FIND} 3000ms {FIND}");
    check(create(false), nothing, &trace, failed);
}

#[test]
fn an_organization_named_by_its_own_id_is_never_made() {
    let machine = || OrgMachine::create(OrgKey::Id("org_1".into()), "A".to_owned(), INTENT, false);
    check(
        machine(),
        vec![Verdict::Absent],
        "get_org",
        "failed organization_not_found",
    );
    check(machine(), vec![org(Some(500))], "get_org", "org_1 before");
}

#[test]
fn what_was_not_applied_is_sent_again_and_a_stop_changes_nothing() {
    let mut machine = create(false);
    machine.start();
    let throttled = Verdict::NotApplied(crate::target::NotApplied::Throttled(None));
    let again = machine.on_verdict(throttled, 1);
    assert!(matches!(again, OrgAction::Send(Op::CreateOrg { .. })));
    let stop = Verdict::Stop(StopReason::NotThisApi("x".to_owned()));
    assert!(matches!(machine.on_verdict(stop, 1), OrgAction::Halt(_)));
    assert!(matches!(
        machine.on_timer(),
        OrgAction::Send(Op::CreateOrg { .. })
    ));
    let done = machine.on_verdict(org(None), 1);
    assert!(matches!(done, OrgAction::Done(OrgVerdict::Ready { .. })));
    assert!(matches!(
        machine.on_timer(),
        OrgAction::Done(OrgVerdict::Ready { .. })
    ));
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    NotApplied,
    LostBefore,
    LostAfter,
    /// Applied, and the worker dies with the answer.
    Crash,
    /// Somebody else makes it right before the request.
    Rival,
}

/// A target with room for one organization, whose readers lag.
#[derive(Debug, Default)]
struct Target {
    now: i64,
    lag: i64,
    made_at: Option<i64>,
    ours: bool,
}

impl Target {
    fn apply(&mut self, op: &Op) -> Verdict {
        match op {
            Op::CreateOrg { .. } if self.made_at.is_some() => exists(),
            Op::CreateOrg { .. } => {
                self.made_at = Some(self.now);
                self.ours = true;
                org(self.made_at)
            }
            _ => match self.made_at {
                Some(at) if at + self.lag <= self.now => org(self.made_at),
                _ => Verdict::Absent,
            },
        }
    }

    fn exchange(&mut self, op: &Op, fault: Fault) -> Option<Verdict> {
        match fault {
            Fault::None => Some(self.apply(op)),
            Fault::NotApplied => Some(Verdict::NotApplied(crate::target::NotApplied::Unauthorized)),
            Fault::LostBefore => Some(unclear()),
            Fault::LostAfter => {
                self.apply(op);
                Some(unclear())
            }
            Fault::Crash => {
                self.apply(op);
                None
            }
            Fault::Rival => {
                self.made_at.get_or_insert(self.now);
                Some(self.apply(op))
            }
        }
    }
}

fn run(target: &mut Target, faults: &[Fault]) -> OrgVerdict {
    let mut faults = faults.iter().copied();
    let mut machine = create(false);
    let mut action = machine.start();
    for alive in 0..1_000 {
        target.now += 20;
        action = match action {
            OrgAction::Send(op) => {
                let fault = faults.next().unwrap_or(Fault::None);
                if let Some(verdict) = target.exchange(&op, fault) {
                    machine.on_verdict(verdict, alive)
                } else {
                    machine = create(true);
                    machine.start()
                }
            }
            OrgAction::Backoff(wait) => {
                target.now += i64::try_from(wait.as_millis()).unwrap();
                machine.on_timer()
            }
            OrgAction::Done(verdict) => return verdict,
            OrgAction::Halt(reason) => panic!("halted: {reason:?}"),
        };
    }
    panic!("the organization does not end");
}

proptest! {
    #[test]
    fn an_organization_ends_ready_and_ours_is_ours(
        faults in prop::collection::vec(
            prop::sample::select(vec![
                Fault::None, Fault::NotApplied, Fault::LostBefore, Fault::LostAfter, Fault::Crash,
                Fault::Rival,
            ]),
            0..7,
        ),
        lag in prop::sample::select(vec![0_i64, 700, 4_000]),
        before in any::<bool>(),
    ) {
        let mut target = Target {
            now: INTENT.0,
            lag,
            made_at: before.then_some(500),
            ours: false,
        };
        let verdict = run(&mut target, &faults);
        let OrgVerdict::Ready { origin, .. } = verdict else {
            return Err(TestCaseError::fail(format!("{verdict:?}")));
        };
        prop_assert!(target.made_at.is_some());
        prop_assert!(origin.is_made() || !target.ours);
        // A rival between our lost create and the look-up cannot be told from ourselves.
        let has_rival = faults.iter().any(|fault| matches!(fault, Fault::Rival));
        prop_assert!(has_rival || origin.is_made() == target.ours);
    }
}

fn named() -> OrgKey {
    OrgKey::Name("Acme".into())
}

#[test]
fn one_known_by_name_is_looked_for_by_its_own_id_and_then_by_name() {
    use Verdict::Absent;
    let ambiguous = || Verdict::Rejected(rejection(ORGANIZATION_AMBIGUOUS));
    let by_id = "find_org_by_external_id";
    let by_name = "find_org_by_name";
    let cases = [
        (vec![org(Some(5))], by_id.to_owned(), "org_1 before"),
        (
            vec![Absent, org(Some(5))],
            format!("{by_id} {by_name}"),
            "org_1 before",
        ),
        (vec![Absent, Absent], format!("{by_id} {by_name}"), "absent"),
        (
            vec![Absent, ambiguous()],
            format!("{by_id} {by_name}"),
            "failed organization_ambiguous",
        ),
    ];
    for (script, trace, verdict) in cases {
        let (seen, end) = play(OrgMachine::lookup(named()), script);
        assert_eq!((seen, in_short(&end).as_str()), (trace, verdict));
    }
}

#[test]
fn one_known_by_name_is_made_under_its_own_id_and_never_twice() {
    let create = |suspect| OrgMachine::create(named(), "Acme".to_owned(), INTENT, suspect);
    let (seen, end) = play(create(false), vec![org(Some(2_000))]);
    assert_eq!(
        (seen.as_str(), in_short(&end).as_str()),
        ("create_org", "org_1 answered")
    );
    // In doubt it is looked for both ways before it is made.
    let (seen, end) = play(
        create(true),
        vec![Verdict::Absent, Verdict::Absent, org(Some(2_000))],
    );
    assert_eq!(seen, "find_org_by_external_id find_org_by_name create_org");
    assert_eq!(in_short(&end), "org_1 answered");
    let (_, end) = play(create(true), vec![org(Some(2_000))]);
    assert_eq!(in_short(&end), "org_1 dated");
}
