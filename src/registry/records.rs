//! Reads one line of a directory file: CSV under its header, or JSONL. A
//! record is one line in both, so a broken one spoils nothing behind it.

use std::{borrow::Cow, fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::{error::HeaderError, lines::MAX_LINE_BYTES, report::Reason};
use crate::{
    bucket::Audience,
    identifier::{Region, Sii, User},
};

/// Seconds an answer may be kept when the line does not say.
pub const DEFAULT_TTL_S: u32 = 86_400;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a good line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sii: Sii,
    pub(super) user: User,
    pub(super) audience: Audience,
    /// `false` and absent say the same: the line makes nothing the default.
    pub(super) default: bool,
    pub(super) ttl_s: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Sii,
    User,
    Audience,
    Default,
    Ttl,
}

impl Field {
    const ALL: [Self; 5] = [Self::Sii, Self::User, Self::Audience, Self::Default, Self::Ttl];

    const fn name(self) -> &'static str {
        match self {
            Self::Sii => "sii",
            Self::User => "user",
            Self::Audience => "audience",
            Self::Default => "default",
            Self::Ttl => "ttl_s",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// How the lines of an input are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    /// Comma-separated, with what each column holds.
    Csv(Columns),
    /// One JSON object a line.
    Jsonl,
}

/// What each column of a CSV file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns(Vec<Field>);

/// What the name of an input promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    Csv,
    Jsonl,
    Nothing,
}

impl Promise {
    pub(super) fn of(name: &str) -> Self {
        let extension = Path::new(name).extension().unwrap_or_default();
        let is = |known: &str| extension.eq_ignore_ascii_case(known);
        if is("csv") {
            Self::Csv
        } else if is("jsonl") || is("ndjson") {
            Self::Jsonl
        } else {
            Self::Nothing
        }
    }
}

/// The input without a byte order mark.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

impl Layout {
    /// Decides how to read an input from its name and its first line that is
    /// not blank. True when that line is a header, no record.
    pub(super) fn detect(promise: Promise, first: &[u8]) -> Result<(Self, bool), HeaderError> {
        let json = match promise {
            Promise::Csv => false,
            Promise::Jsonl => true,
            Promise::Nothing => first.trim_ascii_start().starts_with(b"{"),
        };
        if json { Ok((Self::Jsonl, false)) } else { Ok((Self::Csv(Columns::read(first)?), true)) }
    }

    /// Reads a line; `None` when it is blank.
    pub(super) fn record(
        &self,
        line: &[u8],
        region: Option<Region>,
    ) -> Result<Option<Record>, Reason> {
        if line.len() > MAX_LINE_BYTES {
            return Err(Reason::TooLong);
        }
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let line = std::str::from_utf8(line).map_err(|_| Reason::NotUtf8)?;
        let fields = match self {
            Self::Csv(columns) => columns.split(line)?,
            Self::Jsonl => Fields::from_json(line)?,
        };
        fields.check(region).map(Some)
    }
}

impl Columns {
    fn read(header: &[u8]) -> Result<Self, HeaderError> {
        if header.len() > MAX_LINE_BYTES {
            return Err(HeaderError::TooLong);
        }
        let header = std::str::from_utf8(header).map_err(|_| HeaderError::NotUtf8)?;
        let mut columns = Vec::new();
        for (name, number) in csv_fields(header).zip(1..) {
            let name = name.ok_or(HeaderError::Quotes)?;
            let field = Field::of(&name).ok_or(HeaderError::Unknown(number))?;
            if columns.contains(&field) {
                return Err(HeaderError::Repeated(field.name()));
            }
            columns.push(field);
        }
        for needed in [Field::Sii, Field::User] {
            if !columns.contains(&needed) {
                return Err(HeaderError::Missing(needed.name()));
            }
        }
        Ok(Self(columns))
    }

    fn split<'a>(&self, line: &'a str) -> Result<Fields<'a>, Reason> {
        let mut fields = Fields::default();
        let mut found = 0;
        for text in csv_fields(line) {
            let text = text.ok_or(Reason::Quotes)?;
            match self.0.get(found) {
                Some(Field::Sii) => fields.sii = Some(text),
                Some(Field::User) => fields.user = Some(text),
                Some(Field::Audience) => fields.audience = Some(text).filter(|it| !it.is_empty()),
                Some(Field::Default) => {
                    fields.default = match text.as_ref() {
                        "true" => true,
                        "false" | "" => false,
                        _ => return Err(Reason::Default),
                    }
                }
                Some(Field::Ttl) if text.is_empty() => {}
                Some(Field::Ttl) => {
                    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                    let ttl_s = text.parse().ok().filter(|_| digits);
                    fields.ttl_s = Some(ttl_s.ok_or(Reason::Ttl)?);
                }
                None => {}
            }
            found += 1;
        }
        if found == self.0.len() {
            Ok(fields)
        } else {
            Err(Reason::Fields { expected: self.0.len(), found })
        }
    }
}

/// Splits a line as RFC 4180 section 2 says, but for line breaks within
/// quotes: no field of ours has any. `None` for a misplaced quotation mark,
/// which ends the line.
fn csv_fields(line: &str) -> impl Iterator<Item = Option<Cow<'_, str>>> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some(quoted) = text.strip_prefix('"') else {
            let (field, behind) = match text.split_once(',') {
                Some((field, behind)) => (field, Some(behind)),
                None => (text, None),
            };
            if field.contains('"') {
                return Some(None);
            }
            rest = behind;
            return Some(Some(Cow::Borrowed(field)));
        };
        let mut field = Cow::Borrowed("");
        let mut text = quoted;
        loop {
            let Some((part, behind)) = text.split_once('"') else { return Some(None) };
            field += part;
            if let Some(more) = behind.strip_prefix('"') {
                field += "\"";
                text = more;
            } else if let Some(next) = behind.strip_prefix(',') {
                rest = Some(next);
                return Some(Some(field));
            } else if behind.is_empty() {
                return Some(Some(field));
            } else {
                return Some(None);
            }
        }
    })
}

/// The fields of one line, unchecked.
#[derive(Default)]
struct Fields<'a> {
    sii: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
    audience: Option<Cow<'a, str>>,
    default: bool,
    ttl_s: Option<u32>,
}

impl<'a> Fields<'a> {
    fn from_json(line: &'a str) -> Result<Self, Reason> {
        // What serde_json says may quote the line, so only its kind is told.
        let JsonLine(fields) = serde_json::from_str(line).map_err(|error| {
            if error.is_data() && line.trim_ascii_start().starts_with('{') {
                Reason::JsonType
            } else {
                Reason::Json
            }
        })?;
        fields
    }

    fn check(self, region: Option<Region>) -> Result<Record, Reason> {
        let sii = self.sii.filter(|sii| !sii.is_empty()).ok_or(Reason::NoSii)?;
        let user = self.user.filter(|user| !user.is_empty()).ok_or(Reason::NoUser)?;
        let audience = match self.audience.as_deref() {
            None | Some("personal") => Audience::Personal,
            Some("business") => Audience::Business,
            Some(_) => return Err(Reason::Audience),
        };
        Ok(Record {
            sii: Sii::parse(&sii, region).map_err(Reason::Sii)?,
            user: User::parse(&user).map_err(Reason::User)?,
            audience,
            default: self.default,
            ttl_s: self.ttl_s.unwrap_or(DEFAULT_TTL_S),
        })
    }
}

/// A JSON object whose names are ours, each at most once; `null` says as much
/// as absence.
struct JsonLine<'a>(Result<Fields<'a>, Reason>);

/// A string that is borrowed from the line where it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for JsonLine<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = JsonLine<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        let mut seen = Vec::with_capacity(Field::ALL.len());
        let mut fault = None;
        while let Some(Text(name)) = map.next_key()? {
            let Some(field) = Field::of(&name) else {
                map.next_value::<IgnoredAny>()?;
                fault = fault.or(Some(Reason::UnknownField));
                continue;
            };
            if seen.contains(&field) {
                fault = fault.or(Some(Reason::RepeatedField));
            }
            seen.push(field);
            let mut text = || map.next_value::<Option<Text<'de>>>().map(|text| Some(text?.0));
            match field {
                Field::Sii => fields.sii = text()?,
                Field::User => fields.user = text()?,
                Field::Audience => fields.audience = text()?,
                Field::Default => {
                    fields.default = map.next_value::<Option<bool>>()?.unwrap_or(false);
                }
                Field::Ttl => {
                    let Some(number) = map.next_value::<Option<serde_json::Number>>()? else {
                        continue;
                    };
                    fields.ttl_s = number.as_u64().and_then(|ttl_s| ttl_s.try_into().ok());
                    fault = fault.or(fields.ttl_s.is_none().then_some(Reason::Ttl));
                }
            }
        }
        Ok(JsonLine(fault.map_or(Ok(fields), Err)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identifier::IdentifierError;

    fn csv(header: &str) -> Layout {
        let (layout, is_header) = Layout::detect(Promise::Csv, header.as_bytes()).unwrap();
        assert!(is_header);
        layout
    }

    fn record(sii: &str, user: &str) -> Record {
        Record {
            sii: Sii::from_canonical(sii).unwrap(),
            user: User::parse(user).unwrap(),
            audience: Audience::Personal,
            default: false,
            ttl_s: DEFAULT_TTL_S,
        }
    }

    fn read(layout: &Layout, line: &str) -> Result<Option<Record>, Reason> {
        layout.record(line.as_bytes(), Some("US".parse().unwrap()))
    }

    const ALICE: &str = "mailto:alice@mail.example";

    #[test]
    fn columns_come_in_any_order_and_optional_ones_may_be_empty() {
        let full = Record {
            audience: Audience::Business,
            default: true,
            ttl_s: 60,
            ..record(ALICE, "alice")
        };
        for (header, line, expected) in [
            ("sii,user", "Alice@mail.example,alice", record(ALICE, "alice")),
            ("user,sii", "alice,mailto:alice@mail.example", record(ALICE, "alice")),
            (
                "sii,user,audience,default,ttl_s",
                "alice@mail.example,alice,business,true,60",
                full.clone(),
            ),
            ("ttl_s,default,audience,user,sii", "60,true,business,alice,alice@mail.example", full),
            (
                "sii,user,audience,default,ttl_s",
                "alice@mail.example,alice,,,",
                record(ALICE, "alice"),
            ),
            ("sii,user,default", "alice@mail.example,alice,false", record(ALICE, "alice")),
            ("sii,user", "\"415-555-2671\",\"a,\"\"b\"", record("tel:+14155552671", "a,\"b")),
            ("\"sii\",user", "\"415-555-2671\",u", record("tel:+14155552671", "u")),
        ] {
            assert_eq!(read(&csv(header), line), Ok(Some(expected)), "{header}");
        }
        assert_eq!(read(&csv("sii,user"), "  "), Ok(None));
    }

    #[test]
    fn a_header_of_other_columns_is_refused_without_showing_it() {
        for (header, error) in [
            ("sii,user,colour", HeaderError::Unknown(3)),
            ("+14155552671,alice", HeaderError::Unknown(1)),
            ("sii, user", HeaderError::Unknown(2)),
            ("SII,user", HeaderError::Unknown(1)),
            ("sii,user,sii", HeaderError::Repeated("sii")),
            ("sii,audience", HeaderError::Missing("user")),
            ("user", HeaderError::Missing("sii")),
            ("sii,\"user", HeaderError::Quotes),
        ] {
            assert_eq!(Layout::detect(Promise::Csv, header.as_bytes()), Err(error), "{header}");
        }
        let utf16 = Layout::detect(Promise::Nothing, b"\xff\xfes\0i\0i\0");
        assert_eq!(utf16, Err(HeaderError::NotUtf8));
        let long = vec![b'x'; MAX_LINE_BYTES + 1];
        assert_eq!(Layout::detect(Promise::Csv, &long), Err(HeaderError::TooLong));
    }

    #[test]
    fn the_name_decides_and_then_the_first_byte() {
        assert_eq!(Promise::of("a/b.CSV"), Promise::Csv);
        assert_eq!(Promise::of("b.jsonl"), Promise::Jsonl);
        assert_eq!(Promise::of("-"), Promise::Nothing);
        assert_eq!(Layout::detect(Promise::Nothing, b" {}"), Ok((Layout::Jsonl, false)));
        assert!(matches!(
            Layout::detect(Promise::Nothing, b"sii,user"),
            Ok((Layout::Csv(_), true))
        ));
        assert_eq!(Layout::detect(Promise::Csv, b"{}"), Err(HeaderError::Unknown(1)));
    }

    #[test]
    fn bad_csv_lines_say_what_is_wrong() {
        let layout = csv("sii,user,audience,default,ttl_s");
        for (line, reason) in [
            ("a@b.example,u", Reason::Fields { expected: 5, found: 2 }),
            ("a@b.example,u,,,,", Reason::Fields { expected: 5, found: 6 }),
            ("a@b.example,\"u,,,", Reason::Quotes),
            ("a@b.example,u\",,,", Reason::Quotes),
            ("a@b.example,\"u\"x,,,", Reason::Quotes),
            (",u,,,", Reason::NoSii),
            ("a@b.example,,,,", Reason::NoUser),
            ("a@b.example,u,firm,,", Reason::Audience),
            ("a@b.example,u,,yes,", Reason::Default),
            ("a@b.example,u,,,-1", Reason::Ttl),
            ("a@b.example,u,,,+1", Reason::Ttl),
            ("a@b.example,u,,,4294967296", Reason::Ttl),
            ("a.example,u,,,", Reason::Sii(IdentifierError::PhoneCharacter)),
            ("a@b.example,u v,,,", Reason::User(IdentifierError::UserCharacter)),
        ] {
            assert_eq!(read(&layout, line), Err(reason), "{line}");
        }
        assert_eq!(layout.record(b"a@b.example,\xff,,,", None), Err(Reason::NotUtf8));
        let long = format!("a@b.example,{},,,", "u".repeat(MAX_LINE_BYTES));
        assert_eq!(read(&layout, &long), Err(Reason::TooLong));
    }

    #[test]
    fn json_lines_are_read_by_name() {
        let full = Record {
            audience: Audience::Business,
            default: true,
            ttl_s: 60,
            ..record(ALICE, "alice")
        };
        for (line, expected) in [
            (r#"{"sii":"alice@mail.example","user":"alice"}"#, record(ALICE, "alice")),
            (r#" {"user":"\u0061lice","sii":"alice@mail.example"} "#, record(ALICE, "alice")),
            (
                r#"{"sii":"alice@mail.example","user":"alice","audience":"business","default":true,"ttl_s":60}"#,
                full,
            ),
            (
                r#"{"sii":"alice@mail.example","user":"alice","audience":null,"default":null,"ttl_s":null}"#,
                record(ALICE, "alice"),
            ),
        ] {
            assert_eq!(read(&Layout::Jsonl, line), Ok(Some(expected)), "{line}");
        }
    }

    #[test]
    fn bad_json_lines_say_what_is_wrong() {
        for (line, reason) in [
            ("sii,user", Reason::Json),
            ("[]", Reason::Json),
            (r#""x""#, Reason::Json),
            (r#"{"sii":"a@b.example","user":"u""#, Reason::Json),
            (r#"{"sii":"a@b.example","user":"u"} x"#, Reason::Json),
            (r#"{"sii":1,"user":"u"}"#, Reason::JsonType),
            (r#"{"sii":"a@b.example","user":"u","default":"true"}"#, Reason::JsonType),
            (r#"{"sii":"a@b.example","user":"u","ttl_s":1.5}"#, Reason::Ttl),
            (r#"{"sii":"a@b.example","user":"u","ttl_s":"60"}"#, Reason::JsonType),
            (r#"{"sii":"a@b.example","user":"u","ttl_s":-1}"#, Reason::Ttl),
            (r#"{"sii":"a@b.example","user":"u","ttl_s":4294967296}"#, Reason::Ttl),
            (r#"{"sii":"a@b.example","user":"u","colour":[{}]}"#, Reason::UnknownField),
            (r#"{"sii":"a@b.example","user":"u","sii":"c@d.example"}"#, Reason::RepeatedField),
            (r#"{"sii":"a@b.example"}"#, Reason::NoUser),
            (r#"{"user":"u"}"#, Reason::NoSii),
            (r#"{"sii":"a@b.example","user":"u","audience":"firm"}"#, Reason::Audience),
        ] {
            assert_eq!(read(&Layout::Jsonl, line), Err(reason), "{line}");
        }
    }

    #[test]
    fn no_reason_shows_the_line() {
        for line in [
            r#"{"canary-field-canary":1,"sii":"canary-value-canary"}"#,
            r#"{"sii":["canary-value-canary"]}"#,
            r#"{"sii":"canary-value-canary","user":"canary user canary"}"#,
            "canary-value-canary",
        ] {
            let reason = read(&Layout::Jsonl, line).unwrap_err();
            assert!(!format!("{reason} {reason:?}").contains("canary"), "{reason}");
        }
    }
}
