//! A distribution in a report. It is encoded where a document is written and decoded where somebody asks what is in it:
//! text, profiles and verdicts need neither.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::stats::Durations;
use crate::stats::durations::HdrError;

/// Durations in ns; in a document the base64 of HdrHistogram V2 deflate, and an empty text where there is none.
#[derive(Clone, Debug)]
pub struct Hdr(Form);

#[derive(Clone, Debug)]
enum Form {
    /// As they were counted.
    Counted(Durations),
    /// As a document has them.
    Encoded(String),
}

impl Hdr {
    /// The distribution. What a document does not hold (exact extremes, the sum) is estimated.
    ///
    /// # Errors
    /// The document's text is no histogram in this form.
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

/// Equal where documents are.
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
