//! A distribution of durations in a report. It is encoded only when a document is written, and decoded only when
//! somebody asks for its values: text, profiles and verdicts need neither.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::stats::Durations;
use crate::stats::durations::HdrError;

/// A distribution of durations in ns. In a document it is base64 of HdrHistogram's V2 encoding with deflate
/// compression, and an empty text where nothing was counted.
#[derive(Clone, Debug)]
pub struct Hdr(Form);

#[derive(Clone, Debug)]
enum Form {
    /// The distribution, as it was counted.
    Counted(Durations),
    /// The text that stands in a document.
    Encoded(String),
}

impl Hdr {
    /// The distribution. If it comes from a document, the exact extremes and the sum are not in it, so they are
    /// estimated.
    ///
    /// # Errors
    /// The text of the document is no histogram in this encoding.
    pub fn durations(&self) -> Result<Cow<'_, Durations>, HdrError> {
        match &self.0 {
            Form::Counted(durations) => Ok(Cow::Borrowed(durations)),
            Form::Encoded(text) => Durations::from_base64(text).map(Cow::Owned),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Counted(durations) => Cow::Owned(durations.to_base64().unwrap_or_default()),
            Form::Encoded(text) => Cow::Borrowed(text),
        }
    }
}

impl From<Durations> for Hdr {
    fn from(durations: Durations) -> Hdr {
        Hdr(Form::Counted(durations))
    }
}

impl Default for Hdr {
    fn default() -> Hdr {
        Hdr::from(Durations::default())
    }
}

/// Two distributions are equal if they have the same text in a document.
impl PartialEq for Hdr {
    fn eq(&self, other: &Hdr) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Hdr {}

impl Serialize for Hdr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Hdr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hdr, D::Error> {
        String::deserialize(deserializer).map(|text| Hdr(Form::Encoded(text)))
    }
}

impl JsonSchema for Hdr {
    fn schema_name() -> Cow<'static, str> {
        "Hdr".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "contentEncoding": "base64",
            "description": "HdrHistogram V2 deflate, in ns",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_what_a_document_says() {
        let mut durations = Durations::default();
        [5_000, 7_000_000, 7_000_100].into_iter().for_each(|ns| durations.record(ns));
        let counted = Hdr::from(durations);
        let text = serde_json::to_string(&counted).unwrap();
        let read: Hdr = serde_json::from_str(&text).unwrap();
        assert_eq!(counted, read);
        assert_eq!(read.durations().unwrap().count(), 3);
        assert_eq!(serde_json::to_string(&Hdr::default()).unwrap(), "\"\"");
        let broken: Hdr = serde_json::from_str("\"!\"").unwrap();
        assert!(broken.durations().is_err(), "said by who asks");
    }
}
