//! Where sweep files go: a folder, or an object store. Secrets come from the environment or the instance's metadata only.

use std::error::Error;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, PutMode, PutOptions, RetryConfig};
use url::Url;

use super::error::StoreError;
use super::file::SweepFile;
use super::signing::{self, Signing};

/// How often a request is made again at most.
const RETRIES: usize = 8;

/// A store that can be written to.
#[derive(Clone, Debug)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    /// The path that all files are below.
    prefix: Path,
    /// What the user has called it.
    name: String,
}

/// What a put has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The file is there.
    Written,
    /// A file of this name was there before, and stays as it is.
    WasThere,
}

impl Location {
    /// Opens a store. Nothing is read or written yet, but that a folder is made if it is not there. A request is made again, with
    /// growing pauses, for as long as `patience` allows.
    ///
    /// # Errors
    /// The text names no store, holds what looks like a secret, or names a folder that cannot be made; or this CPU cannot
    /// encrypt.
    pub fn open(text: &str, patience: Duration) -> Result<Location, StoreError> {
        let Some(url) = remote(text)? else { return Location::folder(text) };
        let name = text.to_owned();
        let fail = |why: &dyn std::fmt::Display| StoreError::Location {
            location: name.clone(),
            why: why.to_string(),
        };
        let lacks = signing::lacks();
        if !lacks.is_empty() {
            return Err(StoreError::Cpu { location: name, lacks: lacks.join(", ") });
        }
        signing::encrypt();
        let prefix = Path::from_url_path(url.path()).map_err(|error| fail(&error))?;
        let store = built(&url, patience).map_err(|error| fail(&shortened(&error)))?;
        Ok(Location { store, prefix, name })
    }

    fn folder(text: &str) -> Result<Location, StoreError> {
        let fail = |why: &dyn std::fmt::Display| StoreError::Location {
            location: text.into(),
            why: why.to_string(),
        };
        let path = text.strip_prefix("file://").unwrap_or(text);
        std::fs::create_dir_all(FilePath::new(path)).map_err(|error| fail(&error))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| fail(&error))?;
        Ok(Location { store: Arc::new(store.with_fsync(true)), prefix: Path::default(), name: text.into() })
    }

    /// What the user has called it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a file whole, or not at all. A file of the same name is never overwritten.
    ///
    /// # Errors
    /// The store refuses, or does not answer in time.
    pub async fn put(&self, file: &SweepFile) -> Result<Put, StoreError> {
        let path = self.prefix.parts().chain(Path::from(file.place.to_string()).parts()).collect::<Path>();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path, file.bytes.clone().into(), options).await {
            Ok(_) => Ok(Put::Written),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::WasThere),
            Err(source) => Err(StoreError::Put { location: self.name.clone(), why: shortened(&source) }),
        }
    }
}

/// The address of a store that is no folder; `None` for a folder.
///
/// # Errors
/// It is no address, or holds what looks like a secret.
pub fn remote(text: &str) -> Result<Option<Url>, StoreError> {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| *scheme != "file") else {
        return Ok(None);
    };
    let bare = || {
        format!(
            "{scheme}://{}",
            rest.split(['?', '#']).next().map_or(rest, |rest| rest.rsplit('@').next().unwrap_or(rest))
        )
    };
    let fail = |why: String| StoreError::Location { location: bare(), why };
    let url = Url::parse(text).map_err(|error| fail(error.to_string()))?;
    // Azure's abfss://CONTAINER@ACCOUNT.HOST/ is the one address that has a name before the host.
    let is_azure = matches!(scheme, "abfs" | "abfss");
    let has_secret =
        url.password().is_some() || (!url.username().is_empty() && !is_azure) || url.query().is_some();
    if has_secret {
        return Err(StoreError::Credentials { location: bare() });
    }
    Ok(Some(url))
}

/// Makes what talks to a store. Keys, regions and endpoints come from the environment, under the names that
/// `object_store` documents (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
fn built(url: &Url, patience: Duration) -> object_store::Result<Arc<dyn ObjectStore>> {
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: patience, ..RetryConfig::default() };
    // A request that is not answered at all leaves time for another.
    let (timeout, connect) = (limit(patience / 2), limit(patience / 8));
    let signing = Arc::new(Signing);
    Ok(match url.scheme() {
        "s3" | "s3a" => Arc::new(
            AmazonS3Builder::from_env()
                .with_url(url.as_str())
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), timeout)
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), connect)
                .with_retry(retry)
                .with_crypto_provider(signing)
                .build()?,
        ),
        "gs" => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(url.as_str())
                .with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), timeout)
                .with_config(GoogleConfigKey::Client(ClientConfigKey::ConnectTimeout), connect)
                .with_retry(retry)
                .with_crypto_provider(signing)
                .build()?,
        ),
        "az" | "abfs" | "abfss" => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), timeout)
                .with_config(AzureConfigKey::Client(ClientConfigKey::ConnectTimeout), connect)
                .with_retry(retry)
                .with_crypto_provider(signing)
                .build()?,
        ),
        other => {
            let why = format!("no such kind of store: {other}");
            return Err(object_store::Error::NotSupported { source: why.into() });
        }
    })
}

fn limit(time: Duration) -> String {
    format!("{}ms", time.as_millis().max(1))
}

/// What a store answered, and the innermost reason: not which request it was and how long that took, and without the queries of
/// addresses, which may be signed.
pub fn shortened(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let answer = text.rsplit_once(" - ").map_or(text.as_str(), |(_, answer)| answer);
    let reasons = std::iter::successors(Some(error), |error| (*error).source());
    let innermost = reasons.last().map(ToString::to_string).filter(|reason| !text.contains(reason.as_str()));
    let said = [Some(answer), innermost.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(": ");
    without_markup(&without_queries(&said))
}

/// A text in which a document of S3 or Azure that explains an error is only its code and message. The rest may say which key was used.
pub fn without_markup(text: &str) -> String {
    let Some((before, document)) = text.split_once("<?xml").or_else(|| text.split_once("<Error>")) else {
        return text.to_owned();
    };
    let part = |name: &str| {
        let (_, rest) = document.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(part, _)| part.trim())
    };
    let said = [part("Code"), part("Message")].into_iter().flatten().collect::<Vec<_>>().join(": ");
    format!("{before}{said}").trim_end_matches([' ', ':']).to_owned()
}

/// A text without the queries of the addresses in it.
pub fn without_queries(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((address, _)) if word.contains("://") => format!("{address}?…"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Place;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn file(host: &str, random: u32) -> SweepFile {
        SweepFile { place: Place::new(host, 1_795_837_512_123, random), bytes: vec![1, 2, 3] }
    }

    #[tokio::test]
    async fn a_file_is_whole_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("new/store");
        let location = Location::open(store.to_str().unwrap(), PATIENCE).unwrap();
        assert_eq!(location.put(&file("h", 1)).await.unwrap(), Put::Written);
        let other = SweepFile { bytes: vec![9], ..file("h", 1) };
        assert_eq!(location.put(&other).await.unwrap(), Put::WasThere);
        assert_eq!(std::fs::read(store.join(file("h", 1).place.to_string())).unwrap(), [1, 2, 3]);
        let hour = store.join(Place::folder(1_795_837_512_123));
        assert_eq!(std::fs::read_dir(hour).unwrap().count(), 1, "and nothing else is left");
    }

    #[test]
    fn a_secret_in_an_address_is_refused_and_not_repeated() {
        for address in [
            "s3://key:hunter2@bucket/x",
            "s3://hunter2@bucket/x",
            "az://box/x?sig=hunter2",
            "s3://hunter2@b ucket?hunter2",
        ] {
            let error = Location::open(address, PATIENCE).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = Location::open("s3://key:hunter2@bucket/x", PATIENCE).unwrap_err().to_string();
        assert!(error.contains("environment"), "{error}");
    }

    #[test]
    fn what_is_no_store_is_named() {
        for (text, expected) in
            [("ftp://host/x", "no such kind of store: ftp"), ("/dev/null/x", "/dev/null/x: ")]
        {
            let error = Location::open(text, PATIENCE).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn of_a_document_that_explains_only_code_and_message_are_left() {
        let text = "403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>No.</Message>\
                    <AWSAccessKeyId>hunter2</AWSAccessKeyId></Error>";
        assert_eq!(without_markup(text), "403 Forbidden: SignatureDoesNotMatch: No.");
        assert_eq!(without_markup("503: <Error>hunter2"), "503");
    }

    #[test]
    fn queries_are_left_out_of_messages() {
        let source = "error sending request for url (https://a.example/b?sig=hunter2): timed out".into();
        let text = shortened(&object_store::Error::Generic { store: "S3", source });
        assert!(!text.contains("hunter2") && text.contains("timed out"), "{text}");
    }
}
