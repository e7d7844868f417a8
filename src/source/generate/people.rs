//! The cells of a row: invented people in domains that are reserved for examples.

use super::names::{DEPARTMENTS, DOMAINS, FIRST_NAMES, LAST_NAMES, ORG_FIRST, ORG_LAST};
use super::plan::Chance;

/// One way to break a rule of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadKind {
    EmailMissing,
    EmailWithoutAt,
    EmailTwoAts,
    VerifiedMaybe,
    ExternalIdLong,
    ExternalIdNotAscii,
    MetadataBroken,
    MetadataArray,
    MetadataNested,
    MetadataKeyLong,
    MetadataValueLong,
    MetadataNotAscii,
    OrgNameAlone,
}

impl BadKind {
    const ALL: &[Self] = &[
        Self::EmailMissing,
        Self::MetadataBroken,
        Self::VerifiedMaybe,
        Self::EmailWithoutAt,
        Self::ExternalIdLong,
        Self::MetadataNested,
        Self::EmailTwoAts,
        Self::MetadataKeyLong,
        Self::ExternalIdNotAscii,
        Self::MetadataArray,
        Self::MetadataValueLong,
        Self::MetadataNotAscii,
        Self::OrgNameAlone,
    ];

    /// Returns the kinds a file can hold, in the order in which they take turns.
    pub(super) fn all(with_orgs: bool) -> &'static [Self] {
        match Self::ALL.split_last() {
            Some((_, without)) if !with_orgs => without,
            _ => Self::ALL,
        }
    }
}

/// One row before it is written.
struct Row {
    email: String,
    first: &'static str,
    last: &'static str,
    verified: &'static str,
    external_id: String,
    metadata: String,
    org: Option<u32>,
}

/// Everybody a seed knows.
#[derive(Debug)]
pub(super) struct People {
    seed: u64,
    orgs: u32,
}

impl People {
    pub(super) fn new(seed: u64, orgs: u32) -> Self {
        Self { seed, orgs }
    }

    /// Writes the header.
    pub(super) fn header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"email,first_name,last_name,email_verified,external_id,metadata");
        if self.orgs > 0 {
            out.extend_from_slice(b",org_external_id,org_name");
        }
        out.push(b'\n');
    }

    /// Writes the row of a user's `membership`-th organization.
    pub(super) fn member(&self, out: &mut Vec<u8>, user: u32, membership: u32) {
        let row = self.row(u64::from(user), 'u', membership);
        write(out, &row, false);
    }

    /// Writes the `index`-th row that breaks a rule.
    pub(super) fn bad(&self, out: &mut Vec<u8>, index: u32, kind: BadKind) {
        // Far above every user, so that nobody else is like it.
        let mut row = self.row(u64::from(index) | (1 << 40), 'b', 0);
        match kind {
            BadKind::EmailMissing => row.email.clear(),
            BadKind::EmailWithoutAt => row.email = row.email.replace('@', "."),
            BadKind::EmailTwoAts => row.email = row.email.replace('@', "@at@"),
            BadKind::VerifiedMaybe => row.verified = "maybe",
            BadKind::ExternalIdLong => row.external_id = format!("{:x<129}", row.external_id),
            BadKind::ExternalIdNotAscii => row.external_id.push('é'),
            BadKind::MetadataBroken => set(&mut row.metadata, "{\"department\":"),
            BadKind::MetadataArray => set(&mut row.metadata, "[\"Sales\"]"),
            BadKind::MetadataNested => set(&mut row.metadata, "{\"tags\":[\"a\",\"b\"]}"),
            BadKind::MetadataKeyLong => row.metadata = format!("{{\"{:k<41}\":\"v\"}}", ""),
            BadKind::MetadataValueLong => row.metadata = format!("{{\"note\":\"{:v<601}\"}}", ""),
            BadKind::MetadataNotAscii => set(&mut row.metadata, "{\"city\":\"Köln\"}"),
            BadKind::OrgNameAlone => {}
        }
        write(out, &row, kind == BadKind::OrgNameAlone);
    }

    fn row(&self, person: u64, prefix: char, membership: u32) -> Row {
        let mut chance = Chance::new(self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ person);
        let (first, first_mail) = pick(&mut chance, FIRST_NAMES);
        let (last, last_mail) = pick(&mut chance, LAST_NAMES);
        let domain = pick(&mut chance, DOMAINS);
        let number = base36(person);
        let verified = match chance.below(10) {
            0 => "false",
            1 => "",
            _ => "true",
        };
        let metadata = match chance.below(4) {
            0 => String::new(),
            _ => format!(
                "{{\"department\":\"{}\",\"employee_number\":\"{}\"}}",
                pick(&mut chance, DEPARTMENTS),
                10_000 + chance.below(90_000)
            ),
        };
        Row {
            email: format!("{first_mail}.{last_mail}.{number}@{domain}"),
            first,
            last,
            verified,
            external_id: format!("{prefix}-{:08x}-{number}", chance.below(u32::MAX)),
            metadata,
            org: self.org(&mut chance, membership),
        }
    }

    /// Returns the number of a person's `membership`-th organization: all are different, because
    /// they follow each other around the circle of organizations.
    fn org(&self, chance: &mut Chance, membership: u32) -> Option<u32> {
        let home = u64::from(chance.below(self.orgs));
        let org = (home + u64::from(membership)).checked_rem(u64::from(self.orgs))?;
        u32::try_from(org).ok()
    }
}

fn write(out: &mut Vec<u8>, row: &Row, name_alone: bool) {
    cell(out, &row.email);
    for text in [
        row.first,
        row.last,
        row.verified,
        &row.external_id,
        &row.metadata,
    ] {
        out.push(b',');
        cell(out, text);
    }
    if let Some(org) = row.org {
        out.push(b',');
        if !name_alone {
            cell(out, &format!("org-{:04}", org + 1));
        }
        out.push(b',');
        cell(out, &org_name(org));
    }
    out.push(b'\n');
}

/// Returns an organization's name; a number tells apart those beyond the words.
fn org_name(org: u32) -> String {
    let org = org as usize;
    let words = ORG_FIRST.len() * ORG_LAST.len();
    let first = ORG_FIRST.get(org % ORG_FIRST.len()).unwrap_or(&"");
    let last = ORG_LAST
        .get((org + org / ORG_FIRST.len()) % ORG_LAST.len())
        .unwrap_or(&"");
    match org / words {
        0 => format!("{first} {last}"),
        n => format!("{first} {last} {}", n + 1),
    }
}

fn pick<T: Copy + Default>(chance: &mut Chance, from: &[T]) -> T {
    let index = chance.below(u32::try_from(from.len()).unwrap_or(u32::MAX));
    from.get(index as usize).copied().unwrap_or_default()
}

fn base36(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut out = Vec::with_capacity(13);
    loop {
        let digit = usize::try_from(number % 36).unwrap_or_default();
        out.extend(DIGITS.get(digit));
        number /= 36;
        if number == 0 {
            out.reverse();
            return String::from_utf8(out).unwrap_or_default();
        }
    }
}

fn set(cell: &mut String, text: &str) {
    cell.clear();
    cell.push_str(text);
}

/// Writes a cell, in quotes when it needs them.
fn cell(out: &mut Vec<u8>, text: &str) {
    let needs_quotes = |byte: u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    if !text.bytes().any(needs_quotes) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for piece in text.split_inclusive('"') {
        out.extend_from_slice(piece.as_bytes());
        if piece.ends_with('"') {
            out.push(b'"');
        }
    }
    out.push(b'"');
}
