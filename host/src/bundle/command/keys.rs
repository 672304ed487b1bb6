//! The commands `key`, and where passwords come from.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::CommandError;
use crate::bundle::signature::{self, KeyError, PublicKey, SecretKey};
use crate::bundle::trust::{self, Keys};
use crate::cli::Key;

/// Variable with the password of a secret key.
const PASSWORD: &str = "TWITCHER_KEY_PASSWORD";

/// Carries out a command; gives what is to be printed.
pub fn key(command: Key) -> Result<String, CommandError> {
    match command {
        Key::Generate { file, password } => {
            let password = match password {
                true => Some(ask_password(&file, true)?),
                false => None,
            };
            let key = signature::generate(&file, password)?;
            let public = signature::public_file(&file);
            Ok(format!(
                "key {}: {} is secret, {} is for those who trust it (twitcher key trust)\n",
                key.id(),
                file.display(),
                public.display()
            ))
        }
        Key::List { keys } => list_keys(&Keys::load(&keys)?, &keys),
        Key::Trust {
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

/// Reads a secret key, with its password if it has one.
pub(super) fn secret_key(file: &Path) -> Result<SecretKey, CommandError> {
    Ok(SecretKey::read(file, || {
        ask_password(file, false).map_err(|error| io::Error::other(error.to_string()))
    })?)
}

fn ask_password(file: &Path, new: bool) -> Result<String, CommandError> {
    if let Ok(password) = std::env::var(PASSWORD) {
        return Ok(password);
    }
    let ask = || -> io::Result<String> {
        let password = rpassword::prompt_password(format!("Password of {}: ", file.display()))?;
        if new && rpassword::prompt_password("The same again: ")? != password {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the passwords differ"));
        }
        Ok(password)
    };
    ask().map_err(|error| {
        CommandError::Key(KeyError::Io {
            action: "ask for the password of",
            file: file.to_owned(),
            error,
        })
    })
}

fn list_keys(keys: &Keys, dir: &Path) -> Result<String, CommandError> {
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
