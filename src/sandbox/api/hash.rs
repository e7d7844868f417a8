//! Which password hashes the API accepts. Only the shape is looked at; nothing is kept.

/// Smallest and largest PBKDF2 iteration counts with SHA-256.
const PBKDF2_SHA256: std::ops::RangeInclusive<u64> = 600_000..=1_000_000;
/// Smallest and largest PBKDF2 iteration counts with SHA-512.
const PBKDF2_SHA512: std::ops::RangeInclusive<u64> = 210_000..=1_000_000;
/// Argon2 memory in KiB.
const ARGON2_MEMORY: std::ops::RangeInclusive<u64> = 4096..=262_144;
/// Bytes of a SHA-1 digest.
const SHA1_BYTES: usize = 20;
/// Bytes of a SHA-256 digest.
const SHA256_BYTES: usize = 32;

/// The values of `password_hash_type`.
pub const TYPES: [&str; 7] = [
    "bcrypt",
    "firebase-scrypt",
    "ssha",
    "ssha256",
    "scrypt",
    "pbkdf2",
    "argon2",
];

/// Returns whether `hash` is a well-formed hash of type `kind`.
pub fn is_valid(kind: &str, hash: &str) -> bool {
    match kind {
        "bcrypt" => is_bcrypt(hash),
        "firebase-scrypt" => is_firebase_scrypt(hash),
        "ssha" => is_salted(hash, "{SSHA}", SHA1_BYTES),
        "ssha256" => is_salted(hash, "{SSHA256}", SHA256_BYTES),
        "scrypt" => is_scrypt(hash),
        "pbkdf2" => is_pbkdf2(hash),
        "argon2" => is_argon2(hash),
        _ => false,
    }
}

fn is_bcrypt(hash: &str) -> bool {
    let mut parts = hash.split('$');
    let (Some(""), Some(version), Some(cost), Some(rest), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return false;
    };
    let is_cost = cost.len() == 2 && number(cost).is_some_and(|cost| (4..=31).contains(&cost));
    let is_symbol = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    matches!(version, "2" | "2a" | "2b" | "2x" | "2y")
        && is_cost
        && rest.len() == 53
        && rest.bytes().all(is_symbol)
}

fn is_salted(hash: &str, prefix: &str, digest_bytes: usize) -> bool {
    let Some(text) = hash.strip_prefix(prefix) else {
        return false;
    };
    let symbols = text.trim_end_matches('=');
    // Four symbols carry three bytes: the digest must be whole and a salt must follow it.
    text.len() - symbols.len() <= 2 && is_base64(symbols) && symbols.len() * 3 / 4 > digest_bytes
}

/// `$name[$v=version]$k=v,…$salt$hash`
struct Phc<'a> {
    version: Option<&'a str>,
    params: Vec<(&'a str, &'a str)>,
}

impl<'a> Phc<'a> {
    /// Reads the parts after the name. Salt and digest must be unpadded base 64.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts: Vec<&str> = text.split('$').collect();
        let version = parts.first().and_then(|part| part.strip_prefix("v="));
        if version.is_some() {
            parts.remove(0);
        }
        let [params, salt, digest] = parts[..] else {
            return None;
        };
        let params = params.split(',').map(|pair| pair.split_once('='));
        let is_text = |text: &str| !text.is_empty() && is_base64(text);
        (is_text(salt) && is_text(digest)).then_some(())?;
        Some(Self {
            version,
            params: params.collect::<Option<_>>()?,
        })
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        let mut found = self.params.iter().filter(|(known, _)| *known == key);
        found.next().map(|(_, value)| *value)
    }

    fn number(&self, key: &str) -> Option<u64> {
        number(self.get(key)?)
    }

    fn has_only(&self, keys: &[&str]) -> bool {
        self.params.len() == keys.len() && keys.iter().all(|key| self.get(key).is_some())
    }
}

fn is_scrypt(hash: &str) -> bool {
    let phc = hash.strip_prefix("$scrypt$").and_then(Phc::parse);
    phc.is_some_and(|phc| {
        phc.version == Some("1")
            && phc.has_only(&["n", "r", "p", "kl"])
            && phc
                .number("n")
                .is_some_and(|n| n > 1 && n.is_power_of_two())
            && ["r", "p", "kl"]
                .iter()
                .all(|key| phc.number(key).is_some_and(|n| n > 0))
    })
}

fn is_pbkdf2(hash: &str) -> bool {
    let phc = hash.strip_prefix("$pbkdf2$").and_then(Phc::parse);
    phc.is_some_and(|phc| {
        let range = match phc.get("d") {
            Some("sha256") => PBKDF2_SHA256,
            Some("sha512") => PBKDF2_SHA512,
            _ => return false,
        };
        phc.has_only(&["i", "d"]) && phc.number("i").is_some_and(|i| range.contains(&i))
    })
}

fn is_argon2(hash: &str) -> bool {
    let variants = [("$argon2id$", 1), ("$argon2i$", 3), ("$argon2d$", 1)];
    variants.into_iter().any(|(prefix, passes_min)| {
        let phc = hash.strip_prefix(prefix).and_then(Phc::parse);
        phc.is_some_and(|phc| {
            let within = |key, range: std::ops::RangeInclusive<u64>| {
                phc.number(key).is_some_and(|n| range.contains(&n))
            };
            phc.version == Some("19")
                && phc.has_only(&["m", "t", "p"])
                && within("m", ARGON2_MEMORY)
                && within("t", passes_min..=5)
                && within("p", 1..=8)
        })
    })
}

fn is_firebase_scrypt(hash: &str) -> bool {
    let phc = hash.strip_prefix("$firebase-scrypt$").and_then(Phc::parse);
    phc.is_some_and(|phc| {
        phc.version == Some("1")
            && phc.has_only(&["r", "m", "ss", "sk"])
            && ["r", "m"]
                .iter()
                .all(|key| phc.number(key).is_some_and(|n| n > 0))
            && ["ss", "sk"]
                .iter()
                .all(|key| phc.get(key).is_some_and(is_base64))
    })
}

fn is_base64(text: &str) -> bool {
    let is_symbol = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.bytes().all(is_symbol)
}

fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_forms_are_accepted() {
        let bcrypt = format!("$2a$10${}", "a".repeat(53));
        let ssha = format!("{{SSHA}}{}", "A".repeat(32));
        let ssha256 = format!("{{SSHA256}}{}==", "A".repeat(50));
        for (kind, hash) in [
            ("bcrypt", bcrypt.as_str()),
            ("scrypt", "$scrypt$v=1$n=16384,r=8,p=1,kl=32$c2FsdA$aGFzaA"),
            ("pbkdf2", "$pbkdf2$i=600000,d=sha256$c2FsdA$aGFzaA"),
            ("pbkdf2", "$pbkdf2$i=210000,d=sha512$c2FsdA$aGFzaA"),
            ("argon2", "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"),
            ("argon2", "$argon2i$v=19$m=4096,t=3,p=1$c2FsdA$aGFzaA"),
            ("ssha", ssha.as_str()),
            ("ssha256", ssha256.as_str()),
            (
                "firebase-scrypt",
                "$firebase-scrypt$v=1$r=8,m=14,ss=Bw,sk=a2V5$c2FsdA$aGFzaA",
            ),
        ] {
            assert!(TYPES.contains(&kind));
            assert!(is_valid(kind, hash), "{kind} {hash}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let short = format!("$2a$10${}", "a".repeat(52));
        let cost = format!("$2a$99${}", "a".repeat(53));
        for (kind, hash) in [
            ("bcrypt", ""),
            ("bcrypt", "not-a-hash"),
            ("bcrypt", short.as_str()),
            ("bcrypt", cost.as_str()),
            ("scrypt", "$scrypt$n=16384,r=8,p=1,kl=32$c2FsdA$aGFzaA"),
            ("scrypt", "$scrypt$v=1$n=16383,r=8,p=1,kl=32$c2FsdA$aGFzaA"),
            (
                "scrypt",
                "$scrypt$v=1$n=16384,r=8,p=1,kl=32$c2FsdA==$aGFzaA",
            ),
            ("pbkdf2", "$pbkdf2$i=260000,d=sha256$c2FsdA$aGFzaA"),
            ("pbkdf2", "$pbkdf2$i=600000,d=sha1$c2FsdA$aGFzaA"),
            ("argon2", "$argon2i$v=19$m=4096,t=2,p=1$c2FsdA$aGFzaA"),
            ("argon2", "$argon2id$v=19$m=1024,t=3,p=1$c2FsdA$aGFzaA"),
            ("argon2", "$argon2id$v=16$m=4096,t=3,p=1$c2FsdA$aGFzaA"),
            ("ssha", "{SSHA}AAAA"),
            ("ssha", "AAAA"),
            (
                "firebase-scrypt",
                "$firebase-scrypt$hash=aGFzaA$salt=c2FsdA$sk=a2V5$ss=Bw$r=8$m=14",
            ),
            ("md5", "5f4dcc3b5aa765d61d8327deb882cf99"),
        ] {
            assert!(!is_valid(kind, hash), "{kind} {hash}");
        }
    }
}
