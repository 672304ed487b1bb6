//! Keys and signatures, in the formats of minisign: whatever it makes is read here, and it reads whatever is made here.
//!
//! Only prehashed signatures (`ED`, minisign's default) are taken. Whether a key is trusted is for [`super::trust`] to say.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ct_codecs::{Base64, Decoder};
use minisign::{KeyPair, PublicKeyBox, SecretKeyBox, SignatureBox};

/// Largest signature, in bytes.
pub const SIGNATURE_MAX: usize = 2048;
/// Largest file of a key, in bytes.
const KEY_MAX: u64 = 4096;
/// The line that minisign authenticates in no way. In a bundle it is always this one, or it could be changed unnoticed.
const UNTRUSTED: &str = "signature of a Twitcher bundle";
/// How a secret key without a password begins, in Base64: `Ed`, two zeros instead of a key derivation function, `B2`.
const NO_PASSWORD: &str = "RWQAAEIy";
/// How one with a password does: `Sc` in place of the zeros.
const WITH_PASSWORD: &str = "RWRTY0Iy";
/// Lengths of the lines of a signature, in Base64: algorithm, id and signature; and the signature of both and the comment.
const SIGNATURE_LINE: usize = 100;
const GLOBAL_LINE: usize = 88;

/// What a key is called: the 16 digits that minisign shows. They are not secret, and not unique: an owner chooses them at random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl KeyId {
    fn new(bytes: &[u8]) -> Self {
        let mut id = [0; 8];
        id.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is not in minisign's format.
    #[error("the signature is not one that minisign makes: {0}")]
    Format(String),
    /// It is in an older one of minisign's formats.
    #[error("the signature is of minisign's old kind, without a hash: sign again with a current version")]
    Legacy,
    /// Its text was changed where it is not authenticated.
    #[error(
        "the signature is not written as in a bundle: its first line must be \"untrusted comment: {UNTRUSTED}\", and nothing may \
         follow the fourth"
    )]
    NotCanonical,
    /// It was made with another key, for other content, or changed.
    #[error("the signature does not fit: {0}")]
    Wrong(String),
}

/// Why a key cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read or written.
    #[error("cannot {action} {}: {error}", file.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// It is not a key.
    #[error("{}: {why}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong, in words.
        why: String,
    },
    /// It cannot sign.
    #[error("cannot sign: {0}")]
    Sign(String),
}

/// A key that verifies.
#[derive(Debug, Clone)]
pub struct PublicKey(minisign::PublicKey);

impl PublicKey {
    /// Reads a file that minisign or [`generate`] made.
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        Self::parse(&read_text(file)?).map_err(|why| KeyError::Invalid {
            file: file.to_owned(),
            why,
        })
    }

    /// Reads the text of such a file; an error ends a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let encoded = text.lines().nth(1).unwrap_or_default().trim();
        if [NO_PASSWORD, WITH_PASSWORD]
            .iter()
            .any(|secret| encoded.starts_with(secret))
        {
            return Err(
                "it is a secret key, which is for nobody but its owner: give the public one, FILE.pub".to_owned(),
            );
        }
        let boxed = PublicKeyBox::from_string(text).map_err(|error| error.to_string())?;
        let key = boxed.into_public_key().map_err(|error| error.to_string())?;
        match key.to_bytes().starts_with(b"Ed") {
            true => Ok(Self(key)),
            false => Err("it is not a public key of minisign".to_owned()),
        }
    }

    /// What it is called.
    pub fn id(&self) -> KeyId {
        KeyId::new(self.0.keynum())
    }

    /// As it stands in a file.
    pub fn to_text(&self) -> String {
        format!(
            "untrusted comment: minisign public key {}\n{}\n",
            self.id(),
            self.0.to_base64()
        )
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bytes() == other.0.to_bytes()
    }
}

/// A signature of a manifest.
#[derive(Clone)]
pub struct Signature {
    text: String,
    parsed: SignatureBox,
}

impl Signature {
    /// Reads what minisign or [`SecretKey::sign`] made. What minisign does not authenticate is dropped.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignatureError> {
        let format = |why: &str| SignatureError::Format(why.to_owned());
        if bytes.len() > SIGNATURE_MAX {
            return Err(format("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| format("it is not text"))?;
        let lines: Vec<&str> = text.lines().take(4).collect();
        let &[_, signature, comment, global] = lines.as_slice() else {
            return Err(format("it has fewer than four lines"));
        };
        // Shorter ones the library would read beyond the end of.
        if signature.len() != SIGNATURE_LINE || global.len() != GLOBAL_LINE {
            return Err(format("its lines have other lengths"));
        }
        // minisign's own has tabs.
        if comment.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format("its comment has control characters"));
        }
        let text = format!("untrusted comment: {UNTRUSTED}\n{signature}\n{comment}\n{global}\n");
        let parsed = SignatureBox::from_string(&text).map_err(|error| format(&error.to_string()))?;
        // The signatures' form in Base64 is unique, and the comment has no spaces around it.
        if parsed.to_string() != text {
            return Err(format("it is written in an unusual way"));
        }
        match parsed.is_prehashed() {
            true => Ok(Self { text, parsed }),
            false => Err(SignatureError::Legacy),
        }
    }

    /// Reads the signature in a bundle, of which no byte can be another.
    pub fn of_bundle(bytes: &[u8]) -> Result<Self, SignatureError> {
        let signature = Self::parse(bytes)?;
        match signature.text.as_bytes() == bytes {
            true => Ok(signature),
            false => Err(SignatureError::NotCanonical),
        }
    }

    /// As it stands in a bundle.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.text.clone().into_bytes()
    }

    /// The key that made it, so it says.
    pub fn key(&self) -> KeyId {
        KeyId::new(self.parsed.keynum())
    }

    /// The signer's comment, which is authentic if the signature is.
    pub fn comment(&self) -> String {
        self.parsed.trusted_comment().unwrap_or_default()
    }

    /// Whether it is this key's, of these bytes.
    pub fn verify(&self, key: &PublicKey, content: &[u8]) -> Result<(), SignatureError> {
        minisign::verify(&key.0, &self.parsed, Cursor::new(content), true, false, false)
            .map_err(|error| SignatureError::Wrong(error.to_string()))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signature").field(&self.key()).finish()
    }
}

/// A key that signs. It shows nothing of itself.
pub struct SecretKey(minisign::SecretKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl SecretKey {
    /// Reads a file that minisign or [`generate`] made. `password` is asked only if the key has one.
    pub fn read(file: &Path, password: impl FnOnce() -> io::Result<String>) -> Result<Self, KeyError> {
        let text = read_text(file)?;
        let invalid = |error: minisign::PError| KeyError::Invalid {
            file: file.to_owned(),
            why: error.to_string(),
        };
        if PublicKey::parse(&text).is_ok() {
            return Err(KeyError::Invalid {
                file: file.to_owned(),
                why:
                    "it is a public key, and only a secret one signs: give the file that was made with it, without .pub"
                        .to_owned(),
            });
        }
        let encoded = text.lines().nth(1).unwrap_or_default().trim();
        if encoded.starts_with(NO_PASSWORD) {
            let bytes = Base64::decode_to_vec(encoded, None).map_err(|error| invalid(error.into()))?;
            // Not by its text: minisign leaves the checksum of such a key empty, which the library takes for damage.
            let key = Self(minisign::SecretKey::from_bytes(&bytes).map_err(invalid)?);
            // What the checksum would have found: a half of the key that does not fit the other.
            return key.sign(b"", "").map(|_| key);
        }
        let password = password().map_err(|error| KeyError::Io {
            action: "get the password of",
            file: file.to_owned(),
            error,
        })?;
        let boxed = SecretKeyBox::from_string(&text).map_err(invalid)?;
        Ok(Self(boxed.into_secret_key(Some(password)).map_err(invalid)?))
    }

    /// Signs; the comment is signed too.
    pub fn sign(&self, content: &[u8], comment: &str) -> Result<Signature, KeyError> {
        let failed = |error: String| KeyError::Sign(error);
        let public = self.public()?;
        let signed = minisign::sign(Some(&public.0), &self.0, content, Some(comment), Some(UNTRUSTED))
            .map_err(|error| failed(error.to_string()))?;
        Signature::of_bundle(signed.to_string().as_bytes()).map_err(|error| failed(error.to_string()))
    }

    /// Its other half.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        minisign::PublicKey::from_secret_key(&self.0)
            .map(PublicKey)
            .map_err(|error| KeyError::Sign(error.to_string()))
    }
}

/// Makes a pair of keys: `file`, which only its owner may read, and `file.pub`. Neither may exist.
pub fn generate(file: &Path, password: Option<String>) -> Result<PublicKey, KeyError> {
    let made = match &password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password.clone())),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let invalid = |error: minisign::PError| KeyError::Invalid {
        file: file.to_owned(),
        why: error.to_string(),
    };
    let pair = made.map_err(invalid)?;
    let comment = match password {
        Some(_) => "minisign encrypted secret key",
        None => "minisign secret key without a password: guard this file",
    };
    let secret = pair.sk.to_box(Some(comment)).map_err(invalid)?;
    let public = PublicKey(pair.pk);
    let public_file = public_file(file);
    write_new(&public_file, public.to_text().as_bytes(), 0o644)?;
    write_new(file, secret.to_string().as_bytes(), 0o600).inspect_err(|_| {
        // A public key without its secret one is of no use; the error says enough.
        let _ = fs::remove_file(&public_file);
    })?;
    Ok(public)
}

/// Where [`generate`] puts the public half.
pub fn public_file(secret: &Path) -> PathBuf {
    let mut name = secret.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn write_new(file: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    let write = || -> io::Result<()> {
        let mut open = OpenOptions::new();
        let mut opened = open.write(true).create_new(true).mode(mode).open(file)?;
        opened.write_all(bytes)?;
        opened.sync_all()
    };
    write().map_err(|error| KeyError::Io {
        action: "write",
        file: file.to_owned(),
        error,
    })
}

fn read_text(file: &Path) -> Result<String, KeyError> {
    // Also from a pipe: a secret key may come from a program that keeps it.
    let mut text = String::new();
    let read = File::open(file).and_then(|opened| opened.take(KEY_MAX).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| KeyError::Io {
        action: "read",
        file: file.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests;
