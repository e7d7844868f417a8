//! The command that imports a corrected file the way its job was.

use super::resolve::quoted;
use crate::model::{ExistingPolicy, JobOptions, OrgKey, OrgMode, Reading, TargetKind};
use crate::source::profile;
use std::path::Path;

/// Returns the `import` of `file` with the identity options of a job: without them the same bytes
/// would mean something else.
pub fn import_command(file: &Path, options: &JobOptions, reading: &Reading) -> String {
    let mut words = vec![
        "userferry import".to_owned(),
        quoted(&file.to_string_lossy()),
    ];
    let mut say = |name: &str, value: &str| words.push(format!("--{name} {}", quoted(value)));
    if options.target != TargetKind::Sandbox {
        say("target", options.target.as_str());
    }
    if let Some(url) = &options.base_url {
        say("base-url", url);
    }
    say_organizations(&options.org_mode, &mut say);
    if options.on_existing != ExistingPolicy::Link {
        say("on-existing", options.on_existing.as_str());
    }
    // A built-in one is told by the header again, unless a `--map` stands in its way.
    if profile::named(&options.profile).is_some() && !reading.renames.is_empty() {
        say("profile", &options.profile);
    }
    if profile::named(&options.profile).is_none() && options.profile != profile::NONE {
        say("profile", "FILE.toml");
    }
    for rename in &reading.renames {
        say("map", &rename.to_string());
    }
    let files = [
        ("password-hashes", &options.password_hashes),
        ("hash-parameters", &options.hash_parameters),
    ];
    for (name, path) in files {
        if let Some(path) = path {
            say(name, &path.to_string_lossy());
        }
    }
    if reading.encoding == crate::model::Encoding::Windows1252 {
        say("encoding", reading.encoding.as_str());
    }
    // The automatic sandbox creates them by itself.
    let automatic = options.target == TargetKind::Sandbox && options.base_url.is_none();
    let flags = [
        ("--create-orgs", options.create_orgs && !automatic),
        ("--orgs-by-name", options.org_mode == OrgMode::ColumnsByName),
        ("--reactivate", options.reactivate),
        ("--require-membership", options.require_membership),
    ];
    words.extend(
        flags
            .iter()
            .filter(|(_, on)| *on)
            .map(|(flag, _)| (*flag).to_owned()),
    );
    words.join(" ")
}

fn say_organizations(mode: &OrgMode, say: &mut impl FnMut(&str, &str)) {
    let OrgMode::Single { key, name } = mode else {
        return;
    };
    match key {
        OrgKey::Id(id) => say("org-id", id),
        OrgKey::External(id) | OrgKey::Name(id) => say("org-external-id", id),
    }
    if let Some(name) = name {
        say("org-name", name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::{Cli, Command};
    use super::super::{identity, resolve};
    use super::*;
    use clap::Parser as _;

    #[test]
    fn the_command_means_the_very_same_options() {
        for line in [
            "",
            "--orgs-by-name --map Mail=email --map Name=last_name --require-membership",
            "--target workos --base-url https://api.example.com --create-orgs --on-existing skip",
            "--org-external-id acme --org-name Acme --reactivate --encoding windows-1252",
        ] {
            let given = parsed(&format!("userferry import users.csv {line}"));
            let options = resolve::job_options(&given).unwrap();
            let reading = Reading {
                renames: resolve::renames(&given.map).unwrap(),
                encoding: given.encoding.map(Into::into).unwrap_or_default(),
                ..Reading::default()
            };
            let again = import_command(Path::new("rejects.csv"), &options, &reading);
            let again = parsed(&again.replace('\'', ""));
            assert_eq!(resolve::job_options(&again).unwrap(), options, "{line}");
            identity::check_reading(&again, &reading).unwrap();
            assert_eq!(again.map.len(), given.map.len());
        }
    }

    fn parsed(line: &str) -> crate::cli::args::IdentityArgs {
        match Cli::try_parse_from(line.split_whitespace())
            .unwrap()
            .command
        {
            Command::Import(args) => args.identity,
            other => panic!("{other:?}"),
        }
    }
}
