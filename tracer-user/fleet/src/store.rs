//! The store that hosts write to, to read it and to keep state in it. Keys come from the environment or the instance's metadata
//! only.

use std::error::Error;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datafusion::error::DataFusionError;
use futures::TryStreamExt;
use golife::store::{StoreError, location};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};
use url::Url;

/// How often a request is made again at most.
const RETRIES: usize = 8;
/// How long a connection may take at most.
const CONNECT: Duration = Duration::from_secs(5);

/// How many folders are within each other at most.
const DEEPEST: usize = 8;

/// A store, of which all paths are below its address.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Where it is, if that is on this host.
    folder: Option<PathBuf>,
    name: String,
}

/// Why a store does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
#[error("{store}: cannot {what} {object}: {why}")]
pub struct Refused {
    /// The store.
    pub store: String,
    /// What it was asked for.
    pub what: &'static str,
    /// The object.
    pub object: String,
    /// What it answered, without what may be a secret.
    pub why: String,
}

impl Store {
    /// Opens a store. Nothing is read yet. A request is made again, with growing pauses, for as long as `patience` allows.
    ///
    /// # Errors
    /// The text names no store, holds what looks like a secret, or names a folder that is not there.
    pub fn open(text: &str, patience: Duration) -> Result<Store, StoreError> {
        let fail = |why: String| StoreError::Location {
            location: text.into(),
            why: location::without_queries(&why),
        };
        let Some(url) = location::remote(text)? else {
            let path = text.strip_prefix("file://").unwrap_or(text);
            if !FilePath::new(path).is_dir() {
                return Err(fail("no such folder".into()));
            }
            let folder = LocalFileSystem::new_with_prefix(path).map_err(|error| fail(error.to_string()))?;
            return Ok(Store { objects: Arc::new(folder), folder: Some(path.into()), name: text.into() });
        };
        let prefix = Path::from_url_path(url.path()).map_err(|error| fail(error.to_string()))?;
        let objects = built(&url, patience).map_err(|error| fail(error.to_string()))?;
        Ok(Store { objects: Arc::new(PrefixStore::new(objects, prefix)), folder: None, name: text.into() })
    }

    /// What the user has called it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What DataFusion reads from.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        self.objects.clone()
    }

    /// The objects below a path, in the order of their names, and the paths of those in a folder that no object store can have.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn list(&self, below: &str) -> Result<(Vec<ObjectMeta>, Vec<String>), Refused> {
        let (mut objects, strange) = match self.folder.clone() {
            // The library ends a list of a folder at the first name that it does not like.
            Some(folder) => {
                let inside = folder.join(below);
                let walked = tokio::task::spawn_blocking(move || {
                    let (mut objects, mut strange) = (Vec::new(), Vec::new());
                    walk(&folder, &inside, DEEPEST, &mut objects, &mut strange).map(|()| (objects, strange))
                });
                let walked = walked.await.unwrap_or_else(|broken| Err(std::io::Error::other(broken)));
                walked.map_err(|error| self.refused("list", below, &as_store_error(error)))?
            }
            None => {
                let path = Path::from(below);
                let listed = again(|| self.objects.list(Some(&path)).try_collect::<Vec<_>>()).await;
                (listed.map_err(|error| self.refused("list", below, &error))?, Vec::new())
            }
        };
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok((objects, strange))
    }

    /// The names of the folders right below a path, in their order.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn folders(&self, below: &str) -> Result<Vec<String>, Refused> {
        let mut names: Vec<String> = match &self.folder {
            Some(folder) => {
                let entries = std::fs::read_dir(folder.join(below)).into_iter().flatten().flatten();
                let folders = entries.filter(|entry| entry.path().is_dir());
                folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            }
            None => {
                let path = Path::from(below);
                let listed = again(|| self.objects.list_with_delimiter(Some(&path))).await;
                let listed = listed.map_err(|error| self.refused("list", below, &error))?;
                listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect()
            }
        };
        names.sort();
        Ok(names)
    }

    /// The content of an object; `None` if it is not there.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, Refused> {
        let read = async { self.objects.get(&Path::from(path)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.refused("read", path, &error)),
        }
    }

    /// Writes an object whole, unless there is one of this name: then it stays as it is, and the answer is `false`.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn put_new(&self, path: &str, bytes: Vec<u8>) -> Result<bool, Refused> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(&Path::from(path), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.refused("write", path, &error)),
        }
    }

    /// Takes an object away; one that is gone already is no error.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn delete(&self, path: &Path) -> Result<(), Refused> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.refused("delete", path.as_ref(), &error)),
        }
    }

    fn refused(&self, what: &'static str, object: &str, error: &object_store::Error) -> Refused {
        let (store, object) = (self.name.clone(), object.to_owned());
        let advice = advice(&store, error).map_or(String::new(), |advice| format!("; {advice}"));
        Refused { store, what, object, why: location::shortened(error) + &advice }
    }
}

/// Walks through a folder of a store, links followed, but not for ever.
fn walk(
    store: &FilePath,
    folder: &FilePath,
    deeper: usize,
    objects: &mut Vec<ObjectMeta>,
    strange: &mut Vec<String>,
) -> std::io::Result<()> {
    // What goes away meanwhile is not there.
    let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    let entries = match std::fs::read_dir(folder) {
        Err(error) if gone(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let metadata = match std::fs::metadata(&path) {
            Err(error) if gone(&error) => continue,
            metadata => metadata?,
        };
        if metadata.is_dir() {
            if deeper > 0 {
                walk(store, &path, deeper - 1, objects, strange)?;
            }
            continue;
        }
        let name = path.strip_prefix(store).unwrap_or(&path).to_string_lossy().into_owned();
        // A file that is being written has a number behind its name.
        if name.rsplit_once('#').is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit())) {
            continue;
        }
        match Path::parse(&name) {
            Ok(location) => objects.push(ObjectMeta {
                location,
                last_modified: metadata.modified()?.into(),
                size: metadata.len(),
                e_tag: None,
                version: None,
            }),
            Err(_) => strange.push(name),
        }
    }
    Ok(())
}

fn as_store_error(error: std::io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "folder", source: error.into() }
}

/// Asks again where an answer has broken off, which the library does for objects, but not for lists.
async fn again<T, F: Future<Output = object_store::Result<T>>>(
    ask: impl Fn() -> F,
) -> object_store::Result<T> {
    for pause in [100, 400, 1600] {
        match ask().await {
            Err(error) if error.to_string().contains("response body") => {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

/// What the user may do about an error.
fn advice(store: &str, error: &object_store::Error) -> Option<String> {
    let (keys, endpoint) = match store.split_once("://")?.0 {
        "gs" => ("GOOGLE_APPLICATION_CREDENTIALS", "the network"),
        "az" | "abfs" | "abfss" => {
            ("AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY", "the network")
        }
        _ => ("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION", "AWS_ENDPOINT and the network"),
    };
    // What a list is answered is not told apart by the library.
    let (text, said) = (format!("{error:?}"), error.to_string());
    let has = |words: [&str; 2]| words.iter().any(|word| said.contains(word));
    Some(match error {
        object_store::Error::NotFound { .. } => "is there such a bucket?".into(),
        _ if said.contains("404 Not Found") => "is there such a bucket?".into(),
        _ if has(["401 Unauthorized", "403 Forbidden"]) => {
            format!("set {keys} to keys that may do this, or let the instance's role")
        }
        // Without keys, the instance's metadata is asked for them.
        _ if text.contains("169.254.169.254") || text.contains("metadata.google") => {
            format!("no keys are set, and this instance has none: set {keys}")
        }
        _ if text.contains("BareRedirect") => "set AWS_REGION to the bucket's region".into(),
        _ if text.contains("Connect") || text.contains("Timeout") => {
            format!("look at {endpoint}, or raise --store-timeout")
        }
        _ => return None,
    })
}

/// The error of a store that another one goes back to.
pub fn of_store<'error>(error: &'error (dyn Error + 'static)) -> Option<&'error object_store::Error> {
    if let Some(shared) = error.downcast_ref::<Arc<DataFusionError>>() {
        return of_store(shared.as_ref());
    }
    error.downcast_ref().or_else(|| of_store(error.source()?))
}

/// Makes what talks to a store, by the names in the environment that `object_store` documents (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
fn built(url: &Url, patience: Duration) -> object_store::Result<Arc<dyn ObjectStore>> {
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: patience, ..RetryConfig::default() };
    // A request that is not answered at all leaves time for another. Other options are left as the environment has them, since
    // AWS_ALLOW_HTTP is one of them.
    let limit = |time: Duration| format!("{}ms", time.as_millis().max(1));
    let (timeout, connect) = (limit(patience / 2), limit(CONNECT.min(patience / 8)));
    Ok(match url.scheme() {
        "s3" | "s3a" => Arc::new(
            AmazonS3Builder::from_env()
                .with_url(url.as_str())
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), timeout)
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), connect)
                .with_retry(retry)
                .build()?,
        ),
        "gs" => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(url.as_str())
                .with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), timeout)
                .with_config(GoogleConfigKey::Client(ClientConfigKey::ConnectTimeout), connect)
                .with_retry(retry)
                .build()?,
        ),
        "az" | "abfs" | "abfss" => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), timeout)
                .with_config(AzureConfigKey::Client(ClientConfigKey::ConnectTimeout), connect)
                .with_retry(retry)
                .build()?,
        ),
        other => {
            let why = format!("no such kind of store: {other}");
            return Err(object_store::Error::NotSupported { source: why.into() });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_strangers_are_refused() {
        let error = Store::open("s3://key:hunter2@bucket/x", Duration::from_secs(1)).unwrap_err().to_string();
        assert!(error.contains("environment") && !error.contains("hunter2"), "{error}");
        for (text, expected) in [("ftp://host/x", "no such kind of store"), ("/dev/null/x", "no such folder")]
        {
            assert!(
                Store::open(text, Duration::from_secs(1)).unwrap_err().to_string().contains(expected),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_there_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap(), Duration::from_secs(1)).unwrap();
        assert!(store.put_new("state/a", vec![1]).await.unwrap());
        assert!(!store.put_new("state/a", vec![2]).await.unwrap());
        assert_eq!(store.get("state/a").await.unwrap().as_deref(), Some(&[1][..]));
        assert_eq!(store.get("state/b").await.unwrap(), None);
        assert_eq!(store.folders("").await.unwrap(), ["state"]);
    }
}
