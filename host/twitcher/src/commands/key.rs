//! The command `key`: making keys, and saying whose bundles run here.

use std::fmt::Write as _;
use std::path::Path;

use twitcher_bundle::trust::{self, Keys};
use twitcher_bundle::{PublicKey, generate, public_file};

use super::bundle::{BundleCommandError, new_password};
use crate::args::KeyCommand;

/// Carries out a command; gives what is to be printed.
pub fn key(command: KeyCommand) -> Result<String, BundleCommandError> {
    match command {
        KeyCommand::Generate { file, password } => {
            let password = match password {
                true => Some(new_password(&file)?),
                false => None,
            };
            let key = generate(&file, password)?;
            let public = public_file(&file);
            Ok(format!(
                "key {}: {} is secret, {} is for those who trust it (twitcher key trust)\n",
                key.id(),
                file.display(),
                public.display()
            ))
        }
        KeyCommand::List { keys } => list_keys(&Keys::load(&keys)?, &keys),
        KeyCommand::Trust {
            file,
            native,
            name,
            keys,
        } => {
            let key = PublicKey::read(&file)?;
            let stem = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let placed = trust::trust(&keys, &key, &name.unwrap_or_else(stem), native)?;
            Ok(format!(
                "key {} may sign {}: {}\n",
                key.id(),
                rights(native),
                placed.display()
            ))
        }
    }
}

fn rights(native: bool) -> &'static str {
    match native {
        true => "components and native code",
        false => "components",
    }
}

fn list_keys(keys: &Keys, dir: &Path) -> Result<String, BundleCommandError> {
    let mut text = String::new();
    for trusted in &keys.trusted {
        let _ = writeln!(
            text,
            "{} {:<26} {}",
            trusted.key.id(),
            rights(trusted.native),
            trusted.file.display()
        );
    }
    for (file, why) in &keys.refused {
        let _ = writeln!(text, "{}: NOT TRUSTED: {why}", file.display());
    }
    if text.is_empty() {
        let _ = writeln!(text, "no key is trusted in {}", dir.display());
    }
    Ok(text)
}
