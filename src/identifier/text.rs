//! Unicode rules that all identifiers share.

use std::borrow::Cow;

use unicode_normalization::{
    IsNormalized, UnicodeNormalization as _, char::is_public_assigned, is_nfc_quick,
};
use zeroize::Zeroizing;

/// Whether no identifier may hold `c`: what cannot be seen (controls, spaces,
/// default ignorables) makes two identifiers of one look, and what is not
/// assigned yet may change its normal form with the next Unicode version.
/// The joiners U+200C and U+200D stay: several scripts spell with them.
pub(super) fn is_forbidden(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_control();
    }
    c.is_control()
        || c.is_whitespace()
        || !is_public_assigned(c)
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Normalisation Form C.
pub(super) fn nfc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

/// NFC, untailored lower case, NFC again.
pub(super) fn fold(text: &str) -> Zeroizing<String> {
    if text.is_ascii() {
        return Zeroizing::new(text.to_ascii_lowercase());
    }
    let lower = Zeroizing::new(nfc(text).to_lowercase());
    Zeroizing::new(nfc(&lower).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_follows_unicode_without_any_language() {
        for (input, folded) in [
            ("MiXed", "mixed"),
            ("I\u{130}\u{131}", "ii\u{307}\u{131}"),
            ("STRASSE\u{1e9e}\u{df}", "strasse\u{df}\u{df}"),
            (
                "\u{39f}\u{394}\u{3a5}\u{3a3}\u{3a3}\u{395}\u{3a5}\u{3a3}",
                "\u{3bf}\u{3b4}\u{3c5}\u{3c3}\u{3c3}\u{3b5}\u{3c5}\u{3c2}",
            ),
            ("E\u{301}", "\u{e9}"),
            ("\u{212a}\u{212b}", "k\u{e5}"),
        ] {
            assert_eq!(fold(input).as_str(), folded, "{input}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_forbidden() {
        for c in [
            '\0', '\n', '\u{7f}', '\u{85}', ' ', '\u{a0}', '\u{200b}', '\u{202e}', '\u{feff}',
            '\u{e000}', '\u{378}', '\u{ffff}',
        ] {
            assert!(is_forbidden(c), "{c:?}");
        }
        for c in ['a', '%', '\u{e9}', '\u{301}', '\u{200d}', '\u{4e2d}', '\u{1f600}'] {
            assert!(!is_forbidden(c), "{c:?}");
        }
    }
}
