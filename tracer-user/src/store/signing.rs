//! How requests to object stores are signed and encrypted, by a library that needs no C compiler. It needs a CPU of the last ten
//! years, and would panic on others, so these are told first.

use std::sync::Once;

use graviola::hashing::hmac::Hmac;
use graviola::hashing::{Hash, HashContext, HashOutput, Sha256};
use graviola::signing::rsa::SigningKey;
use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
};
use object_store::{Error, Result};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// What of a CPU the library needs and this one lacks; empty where it has all.
pub fn lacks() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("adx", is_x86_feature_detected!("adx")),
        ("aes", is_x86_feature_detected!("aes")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi1", is_x86_feature_detected!("bmi1")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("ssse3", is_x86_feature_detected!("ssse3")),
    ];
    #[cfg(target_arch = "aarch64")]
    let features = [
        ("aes", std::arch::is_aarch64_feature_detected!("aes")),
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("pmull", std::arch::is_aarch64_feature_detected!("pmull")),
        ("sha2", std::arch::is_aarch64_feature_detected!("sha2")),
    ];
    features.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect()
}

/// Lets TLS of this process use the library. Only the first call does something.
pub fn encrypt() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // This fails where somebody else has chosen one, which does as well.
        let _ = rustls_graviola::default_provider().install_default();
    });
}

/// Signs requests.
#[derive(Debug)]
pub struct Signing;

impl CryptoProvider for Signing {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Once256::Going(Sha256::new()))),
            other => Err(unknown(&other)),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Once256::Going(Hmac::<Sha256>::new(secret)))),
            other => Err(unknown(&other)),
        }
    }

    fn sign(&self, algorithm: SigningAlgorithm, pem: &[u8]) -> Result<Box<dyn Signer>> {
        match algorithm {
            SigningAlgorithm::RS256 => Ok(Box::new(Rsa(key(pem)?))),
            other => Err(unknown(&other)),
        }
    }
}

/// A computation that is finished once, and then has its result.
enum Once256<Going> {
    Going(Going),
    Done(HashOutput),
}

impl<Going: Clone> Once256<Going> {
    fn done(&mut self, finish: impl FnOnce(Going) -> HashOutput) -> Result<&[u8]> {
        if let Once256::Going(going) = self {
            *self = Once256::Done(finish(going.clone()));
        }
        match &*self {
            Once256::Done(output) => Ok(output.as_ref()),
            Once256::Going(_) => Err(failed("not finished")),
        }
    }
}

impl DigestContext for Once256<<Sha256 as Hash>::Context> {
    fn update(&mut self, data: &[u8]) {
        if let Once256::Going(going) = self {
            going.update(data);
        }
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.done(HashContext::finish)
    }
}

impl HmacContext for Once256<Hmac<Sha256>> {
    fn update(&mut self, data: &[u8]) {
        if let Once256::Going(going) = self {
            going.update(data);
        }
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.done(Hmac::finish)
    }
}

/// The private key of a service account.
struct Rsa(SigningKey);

impl Signer for Rsa {
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.0.modulus_len_bytes()];
        let signed = self.0.sign_pkcs1_sha256(&mut signature, text).map_err(|_| failed("cannot sign"))?;
        Ok(signed.to_vec())
    }
}

fn key(pem: &[u8]) -> Result<SigningKey> {
    // What the file holds is no part of the message.
    let read = PrivateKeyDer::from_pem_slice(pem).map_err(|_| failed("the private key is no PEM"))?;
    match &read {
        PrivateKeyDer::Pkcs8(key) => SigningKey::from_pkcs8_der(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => SigningKey::from_pkcs1_der(key.secret_pkcs1_der()),
        _ => return Err(failed("the private key is not of RSA")),
    }
    .map_err(|_| failed("the private key of RSA cannot be read"))
}

fn unknown(algorithm: &dyn std::fmt::Debug) -> Error {
    failed(&format!("no such algorithm: {algorithm:?}"))
}

fn failed(why: &str) -> Error {
    Error::Generic { store: "signature", source: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Vectors of FIPS 180-2 and RFC 4231.
    #[test]
    fn digests_are_those_of_the_standards() {
        assert_eq!(lacks(), [""; 0], "the tests need a CPU that has what the library needs");
        let mut digest = Signing.digest(DigestAlgorithm::Sha256).unwrap();
        digest.update(b"a");
        digest.update(b"bc");
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(digest.finish().unwrap()), expected);
        assert_eq!(hex(digest.finish().unwrap()), expected, "a second time, too");
        let mut hmac = Signing.hmac(DigestAlgorithm::Sha256, b"Jefe").unwrap();
        hmac.update(b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(hmac.finish().unwrap()), expected);
    }

    #[test]
    fn a_key_that_is_none_is_not_shown() {
        let error = Signing.sign(SigningAlgorithm::RS256, b"secret").err().unwrap().to_string();
        assert!(error.contains("no PEM") && !error.contains("secret"), "{error}");
    }
}
