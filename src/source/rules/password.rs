//! `password`, or `password_hash` with its type: the formats the target documents.
//!
//! A hash that the target would refuse is refused here, so that a person learns of it before an
//! import and no request is spent. Hashes and passwords are never shown.

use super::super::Credential;
use super::catalog::{
    PASSWORD_AND_HASH, PASSWORD_BLANK, PASSWORD_HASH_FORMAT, PASSWORD_HASH_MISSING,
    PASSWORD_HASH_PARAMETERS, PASSWORD_HASH_TYPE_MISSING, PASSWORD_HASH_TYPE_UNKNOWN,
    PASSWORD_HASH_UNCONFIRMED,
};
use super::problem::{Broken, Problems};
use super::{HASH_TYPES, harmless};
use std::ops::RangeInclusive;

/// Iterations the target takes with SHA-256.
const PBKDF2_SHA256: RangeInclusive<u32> = 600_000..=1_000_000;
/// Iterations the target takes with SHA-512.
const PBKDF2_SHA512: RangeInclusive<u32> = 210_000..=1_000_000;
/// Memory the target takes for argon2, in KiB.
const ARGON2_MEMORY: RangeInclusive<u32> = 4096..=262_144;
/// Passes the target takes for argon2 (argon2i needs more).
const ARGON2_TIME: RangeInclusive<u32> = 1..=5;
/// Passes the target takes for argon2i.
const ARGON2I_TIME: RangeInclusive<u32> = 3..=5;
/// Lanes the target takes for argon2.
const ARGON2_LANES: RangeInclusive<u32> = 1..=8;
/// The logarithmic cost of bcrypt.
const BCRYPT_COST: RangeInclusive<u32> = 4..=31;
/// Salt and digest of bcrypt, in its own base 64.
const BCRYPT_DIGEST_CHARS: usize = 53;
/// Bytes of a SHA-1 digest.
const SHA1_BYTES: usize = 20;
/// Bytes of a SHA-256 digest.
const SHA256_BYTES: usize = 32;

/// The three cells as they are judged.
pub(super) struct PasswordCells<'a> {
    /// As written.
    pub(super) password: &'a str,
    /// Trimmed.
    pub(super) hash: &'a str,
    /// Trimmed.
    pub(super) kind: &'a str,
}

/// Reads the three cells and tells what is wrong with them.
pub(super) fn judge(cells: &PasswordCells<'_>, problems: &mut Problems) -> Option<Credential> {
    let PasswordCells {
        password,
        hash,
        kind,
    } = cells;
    if password.is_empty() && hash.is_empty() && kind.is_empty() {
        return None;
    }
    if is_blank(password) && hash.is_empty() {
        let words = "nothing but blanks, which counts as no password: the user comes without one";
        problems.add("password", Broken::new(PASSWORD_BLANK, words));
    }
    match read(password, hash, kind) {
        Ok(credential) => {
            if let Some(Credential::Hash { kind, .. }) = &credential
                && let Some(words) = unconfirmed(kind, hash)
            {
                problems.add(
                    "password_hash",
                    Broken::new(PASSWORD_HASH_UNCONFIRMED, words),
                );
            }
            credential
        }
        Err((column, broken)) => {
            problems.add(column, broken);
            None
        }
    }
}

/// Returns whether a cell that is not empty counts as if it were.
fn is_blank(password: &str) -> bool {
    !password.is_empty() && password.trim().is_empty()
}

/// Returns what is not documented about a hash that is otherwise well.
fn unconfirmed(kind: &str, hash: &str) -> Option<&'static str> {
    match kind {
        "bcrypt" if hash.starts_with("$2$") || hash.starts_with("$2x$") => Some(
            "$2$ and $2x$ come from old programs with known faults; the target documents $2a$: \
             try one such person first",
        ),
        "ssha256" => Some(
            "the target takes the type and documents no form for it; {SSHA256} and base 64 is \
             what others write: try one such person first",
        ),
        _ => None,
    }
}

/// Reads the three cells; the error comes with its column. The plain password is kept as
/// written, spaces included.
pub(super) fn read(
    password: &str,
    hash: &str,
    kind: &str,
) -> Result<Option<Credential>, (&'static str, Broken)> {
    let has_password = !password.trim().is_empty();
    if has_password && !hash.is_empty() {
        let words = "there is a password_hash too; a row may have one of them";
        return Err(("password", Broken::new(PASSWORD_AND_HASH, words)));
    }
    if has_password && !kind.is_empty() {
        let words =
            "it stands next to a plain password; if that is a hash, move it to password_hash";
        return Err(("password_hash_type", Broken::new(PASSWORD_AND_HASH, words)));
    }
    if has_password {
        return Ok(Some(Credential::Plain(password.into())));
    }
    match (hash.is_empty(), kind.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => {
            let words = "the type stands without its hash; fill password_hash or clear the type";
            let broken = Broken::new(PASSWORD_HASH_MISSING, words);
            return Err(("password_hash", broken));
        }
        (false, true) => {
            let words = format!(
                "blank next to a hash; allowed are {}",
                HASH_TYPES.join(", ")
            );
            let broken = Broken::new(PASSWORD_HASH_TYPE_MISSING, words);
            return Err(("password_hash_type", broken));
        }
        (false, false) => {}
    }
    let kind = known_type(kind).map_err(|broken| ("password_hash_type", broken))?;
    check_hash(kind, hash).map_err(|broken| ("password_hash", broken))?;
    Ok(Some(Credential::Hash {
        hash: hash.into(),
        kind,
    }))
}

fn known_type(kind: &str) -> Result<&'static str, Broken> {
    let same = |known: &&&str| known.eq_ignore_ascii_case(kind);
    HASH_TYPES.iter().find(same).copied().ok_or_else(|| {
        let words = format!(
            "{}; allowed are {}",
            harmless::hash_type(kind),
            HASH_TYPES.join(", ")
        );
        Broken::new(PASSWORD_HASH_TYPE_UNKNOWN, words)
    })
}

fn check_hash(kind: &str, hash: &str) -> Result<(), Broken> {
    match kind {
        "bcrypt" => bcrypt(hash),
        "scrypt" => scrypt(hash),
        "pbkdf2" => pbkdf2(hash),
        "argon2" => argon2(hash),
        "ssha" => salted("{SSHA}", SHA1_BYTES, hash),
        // The target documents no form for it: the usual one, its prefix optional.
        "ssha256" => salted(
            "{SSHA256}",
            SHA256_BYTES,
            &format!("{{SSHA256}}{}", hash.trim_start_matches("{SSHA256}")),
        ),
        "firebase-scrypt" => firebase_scrypt(hash),
        _ => Err(shape(HASH_TYPES.join(", "))),
    }
}

fn shape(allowed: impl AsRef<str>) -> Broken {
    let words = format!(
        "not in the format of its type; allowed is {}",
        allowed.as_ref()
    );
    Broken::new(PASSWORD_HASH_FORMAT, words)
}

fn parameters(words: impl Into<String>) -> Broken {
    Broken::new(PASSWORD_HASH_PARAMETERS, words)
}

/// The pieces of `$name$v=…$a=1,b=2$salt$hash`.
struct Phc<'a> {
    name: &'a str,
    version: Option<&'a str>,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Phc<'a> {
    /// Reads the pieces; salt and hash must be base 64 without padding.
    fn read(hash: &'a str) -> Option<Self> {
        let mut pieces = hash.strip_prefix('$')?.split('$');
        let name = pieces.next()?;
        let mut piece = pieces.next()?;
        let version = piece.strip_prefix("v=");
        if version.is_some() {
            piece = pieces.next()?;
        }
        let pair = |pair: &'a str| pair.split_once('=');
        let parameters = piece.split(',').map(pair).collect::<Option<Vec<_>>>()?;
        let (salt, digest) = (pieces.next()?, pieces.next()?);
        let whole = pieces.next().is_none() && is_base64(salt) && is_base64(digest);
        whole.then_some(Self {
            name,
            version,
            parameters,
        })
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let mut all = self.parameters.iter();
        all.find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    fn number(&self, name: &str) -> Option<u32> {
        let digits = self.get(name)?;
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    }

    fn has_only(&self, names: &[&str]) -> bool {
        self.parameters.len() == names.len() && names.iter().all(|name| self.get(name).is_some())
    }
}

fn is_base64(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    !text.is_empty() && text.len() % 4 != 1 && text.bytes().all(allowed)
}

fn bcrypt(hash: &str) -> Result<(), Broken> {
    let wrong = || shape("$2a$, $2b$ or $2y$, two digits of cost, $ and 53 characters");
    let mut pieces = hash.split('$');
    let (Some(""), Some(version), Some(cost), Some(digest), None) = (
        pieces.next(),
        pieces.next(),
        pieces.next(),
        pieces.next(),
        pieces.next(),
    ) else {
        return Err(wrong());
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/';
    let fits = matches!(version, "2" | "2a" | "2b" | "2x" | "2y")
        && cost.len() == 2
        && digest.len() == BCRYPT_DIGEST_CHARS
        && digest.bytes().all(allowed);
    match cost.parse::<u32>() {
        Ok(cost) if fits && BCRYPT_COST.contains(&cost) => Ok(()),
        Ok(cost) if fits => Err(parameters(format!(
            "the cost is {cost}; allowed are 4 to 31"
        ))),
        Ok(_) | Err(_) => Err(wrong()),
    }
}

fn scrypt(hash: &str) -> Result<(), Broken> {
    let wrong =
        || shape("$scrypt$v=1$n=,r=,p=,kl=$salt$hash, salt and hash in base 64 without padding");
    let phc = Phc::read(hash).ok_or_else(wrong)?;
    if phc.name != "scrypt" || phc.version != Some("1") || !phc.has_only(&["n", "r", "p", "kl"]) {
        return Err(wrong());
    }
    let all = ["n", "r", "p", "kl"].map(|name| phc.number(name));
    let [Some(n), Some(r), Some(p), Some(length)] = all else {
        return Err(wrong());
    };
    if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 || length == 0 {
        return Err(parameters(format!(
            "found n={n},r={r},p={p},kl={length}; n is the cost itself (a power of two such as \
             16384, not its logarithm), the others are at least 1"
        )));
    }
    Ok(())
}

fn pbkdf2(hash: &str) -> Result<(), Broken> {
    let wrong = || {
        shape(
            "$pbkdf2$i=,d=$salt$hash with d sha256 or sha512, salt and hash in base 64 without padding",
        )
    };
    let phc = Phc::read(hash).ok_or_else(wrong)?;
    let named = phc.name == "pbkdf2" && phc.version.is_none() && phc.has_only(&["i", "d"]);
    let (true, Some(iterations), Some(digest)) = (named, phc.number("i"), phc.get("d")) else {
        return Err(wrong());
    };
    let allowed = match digest {
        "sha256" => PBKDF2_SHA256,
        "sha512" => PBKDF2_SHA512,
        _ => {
            return Err(parameters(
                "the digest is neither sha256 nor sha512; this person needs a password reset",
            ));
        }
    };
    if !allowed.contains(&iterations) {
        return Err(parameters(format!(
            "{iterations} iterations of {digest}; allowed are {} to {}: this person needs a \
             password reset",
            allowed.start(),
            allowed.end()
        )));
    }
    Ok(())
}

fn argon2(hash: &str) -> Result<(), Broken> {
    let wrong = || {
        shape(
            "$argon2id$v=19$m=,t=,p=$salt$hash (or argon2i, argon2d), salt and hash in base 64 without padding",
        )
    };
    let phc = Phc::read(hash).ok_or_else(wrong)?;
    let named = matches!(phc.name, "argon2id" | "argon2i" | "argon2d");
    if !named || phc.version != Some("19") || !phc.has_only(&["m", "t", "p"]) {
        return Err(wrong());
    }
    let passes = if phc.name == "argon2i" {
        ARGON2I_TIME
    } else {
        ARGON2_TIME
    };
    for (name, allowed) in [("m", ARGON2_MEMORY), ("t", passes), ("p", ARGON2_LANES)] {
        let found = phc.number(name).ok_or_else(wrong)?;
        if !allowed.contains(&found) {
            return Err(parameters(format!(
                "found {name}={found} for {}; allowed are {} to {}",
                phc.name,
                allowed.start(),
                allowed.end()
            )));
        }
    }
    Ok(())
}

/// Checks `{SCHEME}` and base 64 of a digest with a salt after it.
fn salted(scheme: &str, digest_bytes: usize, hash: &str) -> Result<(), Broken> {
    let wrong = || {
        shape(format!(
            "{scheme} and the base 64 of {digest_bytes} bytes of digest and at least one of salt"
        ))
    };
    let body = hash.strip_prefix(scheme).ok_or_else(wrong)?;
    let text = body.trim_end_matches('=');
    let padding = body.len() - text.len();
    let padded_well = padding == 0 || (padding <= 2 && body.len().is_multiple_of(4));
    if is_base64(text) && padded_well && text.len() * 3 / 4 > digest_bytes {
        Ok(())
    } else {
        Err(wrong())
    }
}

fn firebase_scrypt(hash: &str) -> Result<(), Broken> {
    let wrong = || {
        shape("$firebase-scrypt$v=1$r=,m=,ss=,sk=$salt$hash, every part in base 64 without padding")
    };
    let phc = Phc::read(hash).ok_or_else(wrong)?;
    let version_fits = matches!(phc.version, None | Some("1"));
    let named =
        phc.name == "firebase-scrypt" && version_fits && phc.has_only(&["r", "m", "ss", "sk"]);
    let keys_fit = ["ss", "sk"]
        .iter()
        .all(|name| phc.get(name).is_some_and(is_base64));
    let (true, true, Some(rounds), Some(memory)) =
        (named, keys_fit, phc.number("r"), phc.number("m"))
    else {
        return Err(wrong());
    };
    if rounds == 0 || memory == 0 {
        return Err(parameters(format!(
            "found r={rounds},m={memory}; both are at least 1"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &str = "c2FsdHNhbHQ";
    const DIGEST: &str = "aGFzaGhhc2hoYXNoaGFzaA";

    fn code(kind: &str, hash: &str) -> Option<&'static str> {
        read("", hash, kind).err().map(|(_, broken)| {
            assert!(!broken.words.contains(DIGEST), "{}", broken.words);
            broken.rule.id
        })
    }

    fn phc(head: &str) -> String {
        format!("{head}${SALT}${DIGEST}")
    }

    #[test]
    fn every_documented_format_passes() {
        let bcrypt = format!(
            "$2a$10${}",
            "N9qo8uLOickgx2ZMRZoMye".repeat(3)[..53].to_owned()
        );
        let firebase = format!("$firebase-scrypt$v=1$r=8,m=14,ss=Bw,sk={DIGEST}");
        for (kind, hash) in [
            ("bcrypt", bcrypt.clone()),
            ("bcrypt", bcrypt.replace("2a", "2b")),
            ("BCrypt", bcrypt.replace("2a", "2y")),
            ("scrypt", phc("$scrypt$v=1$n=16384,r=8,p=1,kl=64")),
            ("pbkdf2", phc("$pbkdf2$i=600000,d=sha256")),
            ("pbkdf2", phc("$pbkdf2$i=210000,d=sha512")),
            ("pbkdf2", phc("$pbkdf2$i=1000000,d=sha512")),
            ("argon2", phc("$argon2id$v=19$m=4096,t=1,p=1")),
            ("argon2", phc("$argon2i$v=19$m=262144,t=3,p=8")),
            ("argon2", phc("$argon2d$v=19$m=65536,t=5,p=4")),
            ("ssha", "{SSHA}MTIzNDU2Nzg5MDEyMzQ1Njc4OTBzYWx0".to_owned()),
            ("ssha256", format!("{{SSHA256}}{}==", "A".repeat(46))),
            ("ssha256", "A".repeat(48)),
            ("firebase-scrypt", phc(&firebase)),
        ] {
            assert_eq!(code(kind, &hash), None, "{kind} {hash}");
        }
    }

    #[test]
    fn wrong_shapes_are_told_from_wrong_parameters() {
        let format = Some("password_hash_format");
        let parameters = Some("password_hash_parameters");
        for (kind, hash, want) in [
            (
                "bcrypt",
                "5f4dcc3b5aa765d61d8327deb882cf99".to_owned(),
                format,
            ),
            ("bcrypt", format!("$2a$10${}", "x".repeat(52)), format),
            ("bcrypt", format!("$2a$03${}", "x".repeat(53)), parameters),
            ("scrypt", phc("$scrypt$ln=14,r=8,p=1"), format),
            ("scrypt", phc("$scrypt$v=1$n=15,r=8,p=1,kl=64"), parameters),
            ("pbkdf2", phc("$pbkdf2$i=599999,d=sha256"), parameters),
            ("pbkdf2", phc("$pbkdf2$i=1000001,d=sha512"), parameters),
            ("pbkdf2", phc("$pbkdf2$i=700000,d=sha1"), parameters),
            ("pbkdf2", phc("$pbkdf2-sha256$i=700000,d=sha256"), format),
            (
                "pbkdf2",
                "$pbkdf2$i=700000,d=sha256$c2FsdA==$aGFzaA==".to_owned(),
                format,
            ),
            ("argon2", phc("$argon2id$v=19$m=4095,t=1,p=1"), parameters),
            ("argon2", phc("$argon2i$v=19$m=4096,t=2,p=1"), parameters),
            ("argon2", phc("$argon2id$v=19$m=4096,t=6,p=1"), parameters),
            ("argon2", phc("$argon2id$v=19$m=4096,t=1,p=9"), parameters),
            ("argon2", phc("$argon2id$m=4096,t=1,p=1"), format),
            ("ssha", "{SSHA}c2hvcnQ=".to_owned(), format),
            (
                "ssha",
                "MTIzNDU2Nzg5MDEyMzQ1Njc4OTBzYWx0".to_owned(),
                format,
            ),
            (
                "ssha256",
                "{SSHA256}MTIzNDU2Nzg5MDEyMzQ1Njc4OTBzYWx0".to_owned(),
                format,
            ),
            ("firebase-scrypt", phc("$hash=x$r=8"), format),
            (
                "firebase-scrypt",
                phc("$firebase-scrypt$v=1$r=0,m=14,ss=Bw,sk=QUJD"),
                parameters,
            ),
        ] {
            assert_eq!(code(kind, &hash), want, "{kind} {hash}");
        }
    }

    #[test]
    fn the_three_cells_must_fit_together() {
        let code = |password, hash, kind| read(password, hash, kind).unwrap_err().1.rule.id;
        assert_eq!(code("p", "h", ""), "password_and_hash");
        assert_eq!(code("p", "", "bcrypt"), "password_and_hash");
        assert_eq!(code("", "h", ""), "password_hash_type_missing");
        assert_eq!(code("", "", "bcrypt"), "password_hash_missing");
        assert_eq!(code("", "h", "md5"), "password_hash_type_unknown");
        assert!(read("  ", "", "").unwrap().is_none());
    }

    #[test]
    fn a_plain_password_keeps_its_spaces() {
        use secrecy::ExposeSecret;
        let Some(Credential::Plain(secret)) = read(" p w ", "", "").unwrap() else {
            panic!("a password was read as something else");
        };
        assert_eq!(secret.expose_secret(), " p w ");
    }
}
