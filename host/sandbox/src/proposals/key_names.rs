//! Keys of a bucket as names of znodes. A key is any text, a name is not: what ZooKeeper refuses, or a directory that stands for a tree
//! of znodes hides, is written as `%` and two digits, as in a URL. Most keys are their own names.

/// The name of a key's znode; none for the empty key, which can have no name.
pub fn name(key: &str) -> Option<String> {
    let mut name = String::with_capacity(key.len());
    let mut characters = key.chars().peekable();
    while let Some(character) = characters.next() {
        let is_hidden = character == '.' && name.is_empty() || character == '~' && characters.peek().is_none();
        match is_hidden || is_refused(character) {
            true => escape(character, &mut name),
            false => name.push(character),
        }
    }
    (!name.is_empty()).then_some(name)
}

/// The key that has this name; none if no key has it, for somebody else made the znode.
pub fn key(of: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(of.len());
    let mut rest = of.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'%' => u8::try_from(digit()? << 4 | digit()?).ok()?,
            plain => plain,
        });
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|key| name(key).as_deref() == Some(of))
}

fn is_refused(character: char) -> bool {
    matches!(character, '/' | '%' | '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}')
}

fn escape(character: char, into: &mut String) {
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        into.push_str(&format!("%{byte:02X}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use twitcher_model::ZnodePath;

    #[test]
    fn most_keys_are_their_own_names() {
        for key in ["a", "user:1", "schlüssel", "a.b", "~a", "A b"] {
            assert_eq!(name(key).as_deref(), Some(key));
        }
        assert_eq!(name("a/b%").as_deref(), Some("a%2Fb%25"));
        assert_eq!(name("..").as_deref(), Some("%2E."));
        assert_eq!(name("a~").as_deref(), Some("a%7E"));
        assert_eq!(name(""), None);
    }

    #[test]
    fn a_name_that_no_key_has_is_none() {
        for others in ["50%", "%2f", "%61", ".a", "%FF", "%2"] {
            assert_eq!(key(others), None, "{others}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_name_of_its_own_that_is_one_znode(text in "\\PC{1,8}|(?s).{1,8}|[./%~]{1,4}") {
            let name = name(&text).unwrap();
            let is_child_of_root = ZnodePath::new(format!("/{name}")).is_ok_and(|path| path.parent() == Some(ZnodePath::root()));
            prop_assert!(is_child_of_root);
            prop_assert!(!name.starts_with('.') && !name.ends_with('~'));
            prop_assert_eq!(key(&name), Some(text));
        }
    }
}
