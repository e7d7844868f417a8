//! The API key: where it comes from, and the question before a live one is used.

use super::confirm;
use super::error::{CliError, CliResult};
use super::exit::Exit;
use super::resolve::Env;
use secrecy::{ExposeSecret as _, SecretString};
use std::fs::OpenOptions;
use std::io::{BufRead, Read as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// A key is a line; a file that holds more is not a key file.
const KEY_BYTES_MAX: u64 = 4096;

/// What a server accepts that accepts any key.
const REHEARSAL_KEY: &str = "sk_test_rehearsal";

/// Returns the key of the file, or of the environment.
pub fn find(file: Option<&Path>, env: &Env) -> CliResult<SecretString> {
    let key = match file {
        Some(path) => Some(read_file(path)?),
        None => env.api_key.clone(),
    };
    let Some(key) = key else {
        return Err(auth("no_api_key", "no API key is set").hint(
            "set WORKOS_API_KEY, or put the key in a file of mode 0600 and say --api-key-file FILE",
        ));
    };
    if key.expose_secret().chars().all(|c| c.is_ascii_graphic()) {
        Ok(key)
    } else {
        Err(auth(
            "bad_api_key",
            "the API key holds a character that no key has (a space, a line end, a quote of a word processor?)",
        ))
    }
}

/// Returns the key for a sandbox at `--base-url`: one that was given, else any.
pub fn find_for_sandbox(file: Option<&Path>, env: &Env) -> CliResult<SecretString> {
    if file.is_none() && env.api_key.is_none() {
        return Ok(SecretString::from(REHEARSAL_KEY));
    }
    find(file, env)
}

/// Returns whether the key belongs to a production environment.
pub fn is_live(key: &SecretString) -> bool {
    key.expose_secret().starts_with("sk_live")
}

fn auth(code: &str, message: impl Into<String>) -> CliError {
    CliError::new(Exit::Auth, code, message)
}

fn read_file(path: &Path) -> CliResult<SecretString> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        auth(
            "api_key_file",
            format!("the key file {shown} cannot be read: {error}"),
        )
    };
    let no_fifo = rustix::fs::OFlags::NONBLOCK.bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(no_fifo).unwrap_or_default())
        .open(path)
        .map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(auth(
            "api_key_file",
            format!("the key file {shown} is not a regular file"),
        ));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let message =
            format!("the key file {shown} has mode {mode:04o}: others can read or change it");
        return Err(auth("api_key_file_mode", message).hint(format!("chmod 600 {shown}")));
    }
    let mut text = String::new();
    file.take(KEY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    let key = text.trim();
    if key.is_empty() {
        return Err(auth("no_api_key", format!("the key file {shown} is empty")));
    }
    Ok(SecretString::from(key))
}

/// Asks before a live key is used; `--yes` answers in advance.
pub fn confirm_live(
    key: &SecretString,
    yes: bool,
    interactive: bool,
    question: &str,
    answer: impl BufRead,
    ask: impl Write,
) -> CliResult<()> {
    if yes || !is_live(key) {
        return Ok(());
    }
    let refuse = |message: &str| {
        CliError::usage("live_key_unconfirmed", message)
            .hint("say --yes to use a live key without being asked")
    };
    if !interactive {
        return Err(refuse(
            "this is a live key, and there is no terminal to confirm it on",
        ));
    }
    let question = format!(
        "{question}\nThe key is a LIVE one: accounts of real people are made. Type `live` to start, anything \
         else to stop: "
    );
    match confirm::typed("live", &question, answer, ask) {
        Ok(true) => Ok(()),
        Ok(false) => Err(refuse("the live key was not confirmed; nothing was sent")),
        Err(_not_shown) => Err(refuse(
            "this is a live key, and the question could not be shown",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(key: Option<&str>) -> Env {
        Env {
            api_key: key.map(SecretString::from),
            checkpoints: None,
            ci: false,
            interactive: false,
            stderr_tty: false,
        }
    }

    fn key_file(mode: u32, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_key_file_wins_over_the_environment_and_must_be_private() {
        let (_dir, path) = key_file(0o600, "sk_test_file\n");
        let key = find(Some(&path), &env(Some("sk_test_env"))).unwrap();
        assert_eq!(key.expose_secret(), "sk_test_file");
        for mode in [0o644, 0o640, 0o660, 0o604] {
            let (_dir, path) = key_file(mode, "sk_test_file\n");
            let error = find(Some(&path), &env(None)).unwrap_err();
            assert_eq!(error.exit(), Exit::Auth);
            assert!(
                error.rendered().contains("chmod 600"),
                "{}",
                error.rendered()
            );
        }
    }

    #[test]
    fn a_missing_or_broken_key_is_an_authentication_failure() {
        let (_dir, empty) = key_file(0o600, " \n");
        let broken = Some("sk_test x");
        for result in [
            find(None, &env(None)),
            find(Some(&empty), &env(None)),
            find(Some(Path::new("/nonexistent/key")), &env(None)),
            find(None, &env(broken)),
        ] {
            assert_eq!(result.unwrap_err().exit(), Exit::Auth);
        }
        assert!(find_for_sandbox(None, &env(None)).is_ok());
    }

    #[test]
    fn a_live_key_wants_the_word() {
        let live = SecretString::from("sk_live_x");
        let test = SecretString::from("sk_test_x");
        let go = |key: &SecretString, yes: bool, tty: bool, typed: &str| {
            confirm_live(key, yes, tty, "1 row", typed.as_bytes(), Vec::new()).is_ok()
        };
        assert!(go(&test, false, false, ""));
        assert!(go(&live, true, false, ""));
        assert!(go(&live, false, true, "live\n"));
        assert!(!go(&live, false, true, "y\n"));
        assert!(!go(&live, false, true, ""));
        assert!(!go(&live, false, false, "live\n"));
    }
}
