//! From arguments and environment to a resolved configuration: the one place that reads the
//! environment and the current folder. What leaves here is absolute and checked.
#![expect(
    clippy::disallowed_methods,
    reason = "this module is the door to the environment"
)]

use super::args::{ExistingScanArg, IdentityArgs, PlaceArgs, ProgressArg, TuningArgs};
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::rates::{self, RateAsk, Rates};
use crate::coordinator::{FailureLimit, Tuning};
use crate::model::escape::shown;
use crate::model::job::WORKOS_ORIGIN;
use crate::model::scan::ExistingScan;
use crate::model::{ExistingPolicy, JobOptions, OrgKey, OrgMode, Rename, RowNumber, TargetKind};
use crate::source::profile::{self, Beside, Parameters, Profile, ProfileChoice};
use crate::source::rules::org_id_fault;
use crate::source::{self, Input};
use secrecy::SecretString;
use std::io::{IsTerminal as _, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Rows per chunk without `--chunk-size`.
const CHUNK_SIZE: u32 = 250;

/// More workers than this never pay on their own; people may still ask for more.
const WORKERS_DEFAULT_MAX: usize = 4;

/// `--max-failures` without one, for targets that are not on this machine.
const MAX_FAILURES: FailureLimit = FailureLimit::Percent(5.0);

const HOUR: Duration = Duration::from_hours(1);

/// What the environment says. Read once. Nothing we print has colours; help text gets its own
/// from clap, which heeds `NO_COLOR`.
#[derive(Debug)]
pub struct Env {
    /// `WORKOS_API_KEY`, when set and not empty.
    pub api_key: Option<SecretString>,
    /// `USERFERRY_CHECKPOINTS`, when set and not empty.
    pub checkpoints: Option<PathBuf>,
    /// `CI` is set, not empty and not `false`.
    pub ci: bool,
    /// stdin and stderr are a terminal: a question can be asked and answered.
    pub interactive: bool,
    /// stderr is a terminal.
    pub stderr_tty: bool,
}

impl Env {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let stderr_tty = std::io::stderr().is_terminal();
        Self {
            api_key: std::env::var("WORKOS_API_KEY")
                .ok()
                .filter(|key| !key.trim().is_empty())
                .map(|key| SecretString::from(key.trim())),
            checkpoints: set("USERFERRY_CHECKPOINTS").map(PathBuf::from),
            ci: set("CI").is_some_and(|value| value != "false" && value != "0"),
            interactive: stderr_tty && std::io::stdin().is_terminal(),
            stderr_tty,
        }
    }
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// Bars.
    Bars,
    /// A line every few seconds.
    Plain,
    /// JSON lines.
    Json,
    /// Nothing.
    Off,
}

/// Decides how progress is shown.
pub fn progress_mode(arg: ProgressArg, env: &Env) -> ProgressMode {
    match arg {
        ProgressArg::Auto if env.stderr_tty && !env.ci => ProgressMode::Bars,
        ProgressArg::Auto | ProgressArg::Plain => ProgressMode::Plain,
        ProgressArg::Json => ProgressMode::Json,
        ProgressArg::None => ProgressMode::Off,
    }
}

/// The folder of the jobs, absolute, and what a printed command needs to find it again.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder.
    pub checkpoints: PathBuf,
    /// ` --checkpoints DIR` when it was given as a flag, else empty.
    pub flag: String,
}

impl Place {
    /// Resolves `--checkpoints`, then the environment, then `./checkpoints`.
    pub fn resolve(args: &PlaceArgs, env: &Env) -> CliResult<Self> {
        let flag = match &args.checkpoints {
            Some(dir) => format!(" --checkpoints {}", quoted(&dir.to_string_lossy())),
            None => String::new(),
        };
        let chosen = args.checkpoints.as_deref().or(env.checkpoints.as_deref());
        let checkpoints = absolute(chosen.unwrap_or(Path::new("checkpoints")))?;
        Ok(Self { checkpoints, flag })
    }

    /// Returns the command that continues `job`.
    pub fn command(&self, verb: &str, job: &str) -> String {
        format!("userferry {verb} {job}{}", self.flag)
    }
}

/// Quotes a word for a POSIX shell when it needs it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./~+,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Returns the command line of this process without some of its flags, as a shell takes it.
pub fn command_without(flags: &[&str]) -> String {
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| word.to_string_lossy().into_owned());
    let kept = words.filter(|word| !flags.contains(&word.as_str()));
    let quoted: Vec<String> = kept.map(|word| quoted(&word)).collect();
    format!("userferry {}", quoted.join(" "))
}

/// Makes a path absolute without asking the disk.
pub fn absolute(path: &Path) -> CliResult<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        CliError::new(
            Exit::Usage,
            "bad_path",
            format!(
                "`{}` cannot be made an absolute path: {error}",
                path.display()
            ),
        )
    })
}

/// This very program, whatever stands at its path by now: an upgrade under way must not mix builds.
const ITSELF: &str = "/proc/self/exe";

/// Returns what workers and sandboxes are started from.
pub fn program() -> CliResult<PathBuf> {
    if cfg!(target_os = "linux") && Path::new(ITSELF).exists() {
        return Ok(PathBuf::from(ITSELF));
    }
    std::env::current_exe().map_err(|error| {
        let message = format!("this program cannot find itself to start workers: {error}");
        CliError::new(Exit::Internal, "program", message)
    })
}

/// Names this process after the program: one that was started from [`ITSELF`] is called `exe`.
pub fn take_name() {
    if cfg!(target_os = "linux") {
        // Only what `ps` and `top` show depends on it.
        let _without = std::fs::write("/proc/self/comm", "userferry");
    }
}

/// Makes a private folder that vanishes with the value.
pub fn temporary_folder() -> CliResult<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("userferry-")
        .tempdir()
        .map_err(|error| {
            CliError::new(
                Exit::Disk,
                "temporary",
                format!("no temporary folder: {error}"),
            )
            .hint("make room, or name another place in TMPDIR")
        })
}

/// Finds the source: stdin, or a regular file, absolute and links resolved.
pub fn source_input(path: &Path) -> CliResult<Input> {
    if path == Path::new("-") {
        return Ok(Input::Stdin);
    }
    let refused = |code: &str, message: String| CliError::new(Exit::Input, code, message);
    let unreadable = |error| {
        let message = format!("{} cannot be read: {error}", path.display());
        refused("unreadable", message)
    };
    let real = std::fs::canonicalize(path).map_err(unreadable)?;
    let meta = std::fs::metadata(&real).map_err(unreadable)?;
    if !meta.is_file() {
        let message = format!("{} is not a regular file", path.display());
        return Err(refused("not_a_file", message)
            .hint("workers read their parts of the file side by side; pipe it into `import -`"));
    }
    Ok(Input::File(real))
}

/// Checks the `--map`s against each other; returns them sorted.
pub fn renames(given: &[Rename]) -> CliResult<Vec<Rename>> {
    let mut renames = given.to_vec();
    renames.sort();
    renames.dedup();
    for (at, one) in renames.iter().enumerate() {
        for other in renames.iter().skip(at + 1) {
            if source::same_name(&one.theirs, &other.theirs) || one.known == other.known {
                let message = format!("--map {one} and --map {other} contradict each other");
                return Err(CliError::usage("map_contradicts", message)
                    .hint("a column is one known column, and a known column is one of the file"));
            }
        }
    }
    Ok(renames)
}

/// Checks `--base-url`: https, or http on loopback; an origin, nothing after it.
pub fn base_url(text: &str, target: TargetKind) -> CliResult<String> {
    let refuse = |message: String| CliError::usage("bad_base_url", message);
    let trimmed = text.trim_end_matches('/');
    let url = reqwest::Url::parse(trimmed)
        .map_err(|error| refuse(format!("--base-url `{text}` is not a URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(
            "--base-url must not hold a user name or password".to_owned(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() || url.path() != "/" {
        return Err(refuse(format!(
            "--base-url `{text}` must be an origin such as {WORKOS_ORIGIN}, with nothing after it"
        )));
    }
    let loopback = is_loopback(&url);
    let allowed = match url.scheme() {
        "https" => true,
        "http" => loopback,
        _ => false,
    };
    if !allowed {
        return Err(refuse(format!(
            "--base-url `{text}` must be https, or http on loopback (127.0.0.1, ::1, localhost): \
             the API key would travel in the clear"
        )));
    }
    if target == TargetKind::Sandbox && !loopback {
        return Err(refuse(format!(
            "--target sandbox stays on this machine, and --base-url `{text}` does not"
        ))
        .hint("for a server elsewhere say --target workos"));
    }
    Ok(trimmed.to_owned())
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Resolves the identity of a new job.
pub fn job_options(args: &IdentityArgs) -> CliResult<JobOptions> {
    let target = args.target.map_or(TargetKind::Sandbox, TargetKind::from);
    let base_url = match (&args.base_url, target) {
        (Some(text), _) => Some(base_url(text, target)?),
        (None, _) => target.default_origin().map(str::to_owned),
    };
    let automatic = target == TargetKind::Sandbox && base_url.is_none();
    Ok(JobOptions {
        target,
        base_url,
        org_mode: org_mode(args)?.unwrap_or(if args.orgs_by_name {
            OrgMode::ColumnsByName
        } else {
            OrgMode::Columns
        }),
        create_orgs: args.create_orgs || automatic,
        on_existing: args
            .on_existing
            .map_or(ExistingPolicy::Link, ExistingPolicy::from),
        reactivate: args.reactivate,
        require_membership: args.require_membership,
        chunk_size: args.chunk_size.unwrap_or(CHUNK_SIZE),
        // What a header tells is known after it was read.
        profile: profile::NONE.to_owned(),
        password_hashes: args.password_hashes.as_deref().map(absolute).transpose()?,
        hash_parameters: hash_parameters(args)?,
    })
}

/// Returns where the parameters of hashes are: a file, or the word that says to do without.
pub fn hash_parameters(args: &IdentityArgs) -> CliResult<Option<PathBuf>> {
    match args.hash_parameters.as_deref() {
        Some(path) if path != Path::new(profile::NONE) => absolute(path).map(Some),
        other => Ok(other.map(Path::to_owned)),
    }
}

/// Reads what was given beside an export.
pub fn beside(args: &IdentityArgs) -> CliResult<Beside> {
    let parameters = match args.hash_parameters.as_deref() {
        None => Parameters::NotGiven,
        Some(path) if path == Path::new(profile::NONE) => Parameters::WithoutPasswords,
        Some(path) => Parameters::Given(profile::read_parameters(path)?),
    };
    Ok(Beside {
        hashes: args.password_hashes.clone(),
        parameters,
    })
}

/// Returns how the arguments choose the file's profile; `None` when they do not say.
pub fn profile(args: &IdentityArgs) -> CliResult<Option<ProfileChoice>> {
    let Some(word) = args.profile.as_deref() else {
        return Ok(None);
    };
    if let Some(profile) = profile::named(word) {
        return Ok(Some(ProfileChoice::Use(profile)));
    }
    match word {
        "auto" => Ok(Some(ProfileChoice::Detect)),
        profile::NONE => Ok(Some(ProfileChoice::Off)),
        file if Path::new(file).extension().is_some_and(|ext| ext == "toml") => {
            own_profile(Path::new(file)).map(|own| Some(ProfileChoice::Use(Arc::new(own))))
        }
        other => {
            let built_in: Vec<&str> = profile::built_in().iter().map(|p| p.id.as_str()).collect();
            let message = format!("there is no profile `{}`", shown(other));
            Err(CliError::usage("unknown_profile", message).hint(format!(
                "allowed are auto, none, {} and the path of a profile of your own that ends in \
                 .toml",
                built_in.join(", ")
            )))
        }
    }
}

fn own_profile(path: &Path) -> CliResult<Profile> {
    let place = path.display();
    // One byte more than allowed tells that it is too long, whatever it is.
    let text = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        let most = profile::TEXT_BYTES_MAX as u64 + 1;
        file.take(most).read_to_string(&mut text).map(|_| text)
    });
    let text = text.map_err(|error| {
        CliError::usage(
            "profile_not_read",
            format!("cannot read the profile {place}: {error}"),
        )
    })?;
    Profile::read_own(&text).map_err(|error| {
        CliError::usage(
            "profile_refused",
            format!("the profile {place} is refused: {error}"),
        )
        .hint("docs/PROFILES.md has the form, and examples")
    })
}

/// Returns the single organization the arguments name, if any.
pub fn org_mode(args: &IdentityArgs) -> CliResult<Option<OrgMode>> {
    let (option, key) = match (&args.org_id, &args.org_external_id) {
        (Some(id), _) => ("--org-id", OrgKey::Id(id.trim().into())),
        (None, Some(id)) => ("--org-external-id", OrgKey::External(id.trim().into())),
        (None, None) => return Ok(None),
    };
    if key.as_str().is_empty() {
        let words = format!("{option} cannot be empty");
        return Err(CliError::usage("empty_org", words));
    }
    if let Some(fault) = org_id_fault(key.as_str()) {
        let words = format!("{option}: {fault}");
        return Err(CliError::usage("bad_org", words));
    }
    let name = args.org_name.as_ref().map(|name| name.trim().to_owned());
    let name = name.filter(|name| !name.is_empty());
    Ok(Some(OrgMode::Single { key, name }))
}

/// Returns whether users go to another machine: nothing on this one can do harm.
fn is_elsewhere(options: &JobOptions) -> bool {
    let url = options.base_url.as_deref().map(reqwest::Url::parse);
    url.is_some_and(|url| url.is_ok_and(|url| !is_loopback(&url)))
}

/// Returns whether users go to the automatic sandbox of the job.
fn is_own_sandbox(options: &JobOptions) -> bool {
    options.target == TargetKind::Sandbox && options.base_url.is_none()
}

/// Resolves what may change from run to run, and what to tell people about the limits.
pub fn tuning(
    args: &TuningArgs,
    env: &Env,
    options: &JobOptions,
    live_key: bool,
) -> (Tuning, Vec<String>) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let default_workers = u32::try_from(cores.min(WORKERS_DEFAULT_MAX)).unwrap_or(1);
    let patient = !env.stderr_tty && !env.ci;
    let default_outage = if patient { 24 * HOUR } else { HOUR };
    let Rates {
        limits,
        auto,
        notes,
    } = rates::decide(&RateAsk {
        rate: args.rate,
        reads: args.read_rate,
        total: args.total_rate,
        target: options.target,
        live_key,
    });
    let tuning = Tuning {
        workers: args.workers.unwrap_or(default_workers),
        concurrency: args.concurrency,
        org_cache: args.org_cache,
        limits,
        auto_rate: auto,
        max_outage: args.max_outage.unwrap_or(default_outage),
        max_failures: match args.max_failures {
            Some(arg) => arg.limit(),
            None => is_elsewhere(options).then_some(MAX_FAILURES),
        },
        limit: args.limit.filter(|limit| *limit > 0).map(RowNumber),
        existing_scan: match args.existing_scan {
            // Nobody but the job itself makes users there.
            ExistingScanArg::Auto if is_own_sandbox(options) => ExistingScan::Probe,
            ExistingScanArg::Auto => ExistingScan::Auto,
            ExistingScanArg::List => ExistingScan::List,
            ExistingScanArg::Probe => ExistingScan::Probe,
        },
    };
    (tuning, notes)
}

#[cfg(test)]
mod tests {
    use super::super::args::{Cli, Command};
    use super::*;
    use clap::Parser as _;

    #[test]
    fn a_base_url_is_https_or_loopback() {
        use TargetKind::{Sandbox, Workos};
        for good in [
            "https://api.workos.com",
            "https://api.workos.com/",
            "http://127.0.0.1:4100",
            "http://127.9.9.9:1",
            "http://localhost:4100",
            "http://[::1]:4100",
        ] {
            assert_eq!(base_url(good, Workos).unwrap(), good.trim_end_matches('/'));
        }
        for bad in [
            "http://api.workos.com",
            "ftp://127.0.0.1",
            "api.workos.com",
            "https://u:p@api.workos.com",
            "https://api.workos.com/v1",
            "https://api.workos.com?x=1",
            "http://127.0.0.1.evil.org",
            "http://localhost.evil.org",
        ] {
            assert_eq!(
                base_url(bad, Workos).unwrap_err().exit(),
                Exit::Usage,
                "{bad}"
            );
        }
        assert!(base_url("https://api.workos.com", Sandbox).is_err());
        assert!(base_url("http://127.0.0.1:4100", Sandbox).is_ok());
    }

    #[test]
    fn the_automatic_sandbox_creates_organizations_and_nothing_else_does() {
        let options = job_options(&IdentityArgs::default()).unwrap();
        assert_eq!(
            (options.target, options.base_url),
            (TargetKind::Sandbox, None)
        );
        assert!(options.create_orgs);
        let elsewhere = job_options(&IdentityArgs {
            base_url: Some("http://127.0.0.1:4100".to_owned()),
            ..IdentityArgs::default()
        });
        assert!(!elsewhere.unwrap().create_orgs);
        let workos = job_options(&IdentityArgs {
            target: Some(super::super::args::TargetArg::Workos),
            ..IdentityArgs::default()
        })
        .unwrap();
        assert_eq!(workos.base_url.as_deref(), Some(WORKOS_ORIGIN));
        assert!(!workos.create_orgs);
    }

    #[test]
    fn only_what_is_elsewhere_is_stopped_by_failures() {
        let options = |line: &[&str]| {
            let words = ["userferry", "import", "a.csv"].iter().chain(line);
            let Command::Import(args) = Cli::try_parse_from(words).unwrap().command else {
                panic!("it says import");
            };
            job_options(&args.identity).unwrap()
        };
        let at = |url| options(&["--target", "workos", "--base-url", url]);
        assert!(is_elsewhere(&options(&["--target", "workos"])));
        assert!(is_elsewhere(&at("https://directory.example.org")));
        assert!(!is_elsewhere(&at("http://127.0.0.1:4100")));
        assert!(!is_elsewhere(&options(&[])));
    }

    #[test]
    fn an_organization_on_the_command_line_is_one_that_can_be_asked_for() {
        let long = "x".repeat(129);
        for bad in ["", " ", ".", "..", "a\nb", &long] {
            for by_id in [true, false] {
                let id = Some(bad.to_owned());
                let args = IdentityArgs {
                    org_id: id.clone().filter(|_| by_id),
                    org_external_id: id.filter(|_| !by_id),
                    ..IdentityArgs::default()
                };
                let error = org_mode(&args).unwrap_err();
                assert_eq!(error.exit(), Exit::Usage, "{bad:?}");
                let option = if by_id {
                    "--org-id"
                } else {
                    "--org-external-id"
                };
                assert!(error.rendered().contains(option), "{}", error.rendered());
            }
        }
    }

    #[test]
    fn a_source_is_stdin_or_a_regular_file() {
        assert_eq!(source_input(Path::new("-")).unwrap(), Input::Stdin);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(source_input(dir.path()).unwrap_err().exit(), Exit::Input);
        let missing = dir.path().join("a.csv");
        assert_eq!(source_input(&missing).unwrap_err().exit(), Exit::Input);
        std::fs::write(&missing, "").unwrap();
        assert!(matches!(source_input(&missing).unwrap(), Input::File(_)));
    }

    #[test]
    fn maps_that_contradict_each_other_are_refused() {
        let rename = |theirs: &str, known: &str| Rename {
            theirs: theirs.to_owned(),
            known: known.to_owned(),
        };
        let both = [rename("b", "email"), rename("a", "org_name")];
        assert_eq!(renames(&both).unwrap()[0].theirs, "a");
        assert!(renames(&[rename("a", "email"), rename("b", "email")]).is_err());
        assert!(renames(&[rename("A b", "email"), rename("a-b", "org_id")]).is_err());
        let twice = [rename("a", "email"), rename("a", "email")];
        assert_eq!(renames(&twice).unwrap().len(), 1);
    }

    #[test]
    fn printed_commands_survive_a_shell() {
        assert_eq!(quoted("/tmp/a-b"), "/tmp/a-b");
        assert_eq!(quoted("it's here"), "'it'\\''s here'");
    }
}
