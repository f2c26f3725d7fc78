//! The store that hosts write to, to read it and to keep state in it. Keys come from the environment or the instance's metadata
//! only.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use golife::store::{StoreError, location};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};
use url::Url;

/// How long one request may take, answer included.
const REQUEST: Duration = Duration::from_secs(60);
/// How long a request is made again, with growing pauses.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often at most.
const RETRIES: usize = 5;

/// A store, of which all paths are below its address.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
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
    /// Opens a store. Nothing is read yet.
    ///
    /// # Errors
    /// The text names no store, holds what looks like a secret, or names a folder that is not there.
    pub fn open(text: &str) -> Result<Store, StoreError> {
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
            return Ok(Store { objects: Arc::new(folder), name: text.into() });
        };
        let prefix = Path::from_url_path(url.path()).map_err(|error| fail(error.to_string()))?;
        let objects = built(&url).map_err(|error| fail(error.to_string()))?;
        Ok(Store { objects: Arc::new(PrefixStore::new(objects, prefix)), name: text.into() })
    }

    /// What the user has called it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What DataFusion reads from.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        self.objects.clone()
    }

    /// The objects below a path, in the order of their names.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn list(&self, below: &str) -> Result<Vec<ObjectMeta>, Refused> {
        let listed = self.objects.list(Some(&Path::from(below))).try_collect::<Vec<_>>().await;
        let mut listed = listed.map_err(|error| self.refused("list", below, &error))?;
        listed.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(listed)
    }

    /// The names of the folders right below a path, in their order.
    ///
    /// # Errors
    /// The store refuses, or does not answer.
    pub async fn folders(&self, below: &str) -> Result<Vec<String>, Refused> {
        let listed = self.objects.list_with_delimiter(Some(&Path::from(below))).await;
        let listed = listed.map_err(|error| self.refused("list", below, &error))?;
        let mut names: Vec<String> =
            listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
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
        Refused { store, what, object, why: location::without_queries(&error.to_string()) }
    }
}

/// Makes what talks to a store, by the names in the environment that `object_store` documents (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
fn built(url: &Url) -> object_store::Result<Arc<dyn ObjectStore>> {
    let retry = || RetryConfig { max_retries: RETRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
    let options =
        || ClientOptions::default().with_timeout(REQUEST).with_connect_timeout(Duration::from_secs(5));
    Ok(match url.scheme() {
        // Client options are left as the environment has them, since AWS_ALLOW_HTTP is one of them.
        "s3" | "s3a" => {
            Arc::new(AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry()).build()?)
        }
        "gs" => Arc::new(
            GoogleCloudStorageBuilder::from_env()
                .with_url(url.as_str())
                .with_retry(retry())
                .with_client_options(options())
                .build()?,
        ),
        "az" | "abfs" | "abfss" => Arc::new(
            MicrosoftAzureBuilder::from_env()
                .with_url(url.as_str())
                .with_retry(retry())
                .with_client_options(options())
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
        let error = Store::open("s3://key:hunter2@bucket/x").unwrap_err().to_string();
        assert!(error.contains("environment") && !error.contains("hunter2"), "{error}");
        for (text, expected) in [("ftp://host/x", "no such kind of store"), ("/dev/null/x", "no such folder")]
        {
            assert!(Store::open(text).unwrap_err().to_string().contains(expected), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_there_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        assert!(store.put_new("state/a", vec![1]).await.unwrap());
        assert!(!store.put_new("state/a", vec![2]).await.unwrap());
        assert_eq!(store.get("state/a").await.unwrap().as_deref(), Some(&[1][..]));
        assert_eq!(store.get("state/b").await.unwrap(), None);
        assert_eq!(store.folders("").await.unwrap(), ["state"]);
    }
}
