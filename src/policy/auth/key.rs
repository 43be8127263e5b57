//! Keys that tokens are verified with: each is bound to one algorithm, and strong enough for it.

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey};
use jsonwebtoken::DecodingKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSA PKCS #1 v1.5 with SHA-256.
    RS256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    RS384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    RS512,
    /// RSA PSS with SHA-256.
    PS256,
    /// RSA PSS with SHA-384.
    PS384,
    /// RSA PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};

impl Algorithm {
    const ALL: [Self; 12] = [HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];

    pub const fn word(self) -> &'static str {
        match self {
            HS256 => "HS256",
            HS384 => "HS384",
            HS512 => "HS512",
            RS256 => "RS256",
            RS384 => "RS384",
            RS512 => "RS512",
            PS256 => "PS256",
            PS384 => "PS384",
            PS512 => "PS512",
            ES256 => "ES256",
            ES384 => "ES384",
            EdDSA => "EdDSA",
        }
    }

    /// By its registered name, letter by letter; `none` is no algorithm.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.word() == word)
    }

    const fn outside(self) -> jsonwebtoken::Algorithm {
        match self {
            HS256 => jsonwebtoken::Algorithm::HS256,
            HS384 => jsonwebtoken::Algorithm::HS384,
            HS512 => jsonwebtoken::Algorithm::HS512,
            RS256 => jsonwebtoken::Algorithm::RS256,
            RS384 => jsonwebtoken::Algorithm::RS384,
            RS512 => jsonwebtoken::Algorithm::RS512,
            PS256 => jsonwebtoken::Algorithm::PS256,
            PS384 => jsonwebtoken::Algorithm::PS384,
            PS512 => jsonwebtoken::Algorithm::PS512,
            ES256 => jsonwebtoken::Algorithm::ES256,
            ES384 => jsonwebtoken::Algorithm::ES384,
            EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }

    /// Bytes of secret that HMAC needs at least (RFC 7518 section 3.2); nothing for the others.
    const fn least_secret(self) -> Option<usize> {
        match self {
            HS256 => Some(32),
            HS384 => Some(48),
            HS512 => Some(64),
            _ => None,
        }
    }
}

/// The public half of a pair, as it was read.
pub enum Public {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key and the only algorithm that it is good for.
pub struct Key {
    /// The name under which tokens know it.
    pub id: Option<Box<str>>,
    pub algorithm: Algorithm,
    material: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

const LEAST_BITS: usize = 2048;
const MOST_BITS: usize = 8192;

impl Key {
    /// A shared secret. The error is what is wrong with it.
    pub fn secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, String> {
        let word = algorithm.word();
        let Some(least) = algorithm.least_secret() else {
            return Err(format!("{word} does not sign with a secret; HS256, HS384 and HS512 do"));
        };
        if secret.len() < least {
            return Err(format!("has {} bytes, and {word} needs at least {least}", secret.len()));
        }
        Ok(Self { id: None, algorithm, material: DecodingKey::from_secret(secret) })
    }

    /// A public key. Without a word on the algorithm, RSA means RS256; curves leave no choice.
    pub fn public(public: &Public, said: Option<Algorithm>) -> Result<Self, String> {
        let (material, fits): (_, &[Algorithm]) = match public {
            Public::Rsa { modulus, exponent } => {
                strong_rsa(modulus, exponent)?;
                let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
                (key, &[RS256, RS384, RS512, PS256, PS384, PS512])
            }
            Public::P256(point) => (on_curve(&signature::ECDSA_P256_SHA256_FIXED, point)?, &[ES256]),
            Public::P384(point) => (on_curve(&signature::ECDSA_P384_SHA384_FIXED, point)?, &[ES384]),
            Public::Ed25519(key) => {
                let parsed = ParsedPublicKey::new(&signature::ED25519, key);
                parsed.map_err(|_| "is not a key of Ed25519")?;
                (DecodingKey::from_ed_der(key), &[EdDSA])
            }
        };
        let algorithm = said.or(fits.first().copied()).unwrap_or(RS256);
        if !fits.contains(&algorithm) {
            let words: Vec<_> = fits.iter().map(|one| one.word()).collect();
            return Err(format!("cannot be used for {}, only for {}", algorithm.word(), words.join(", ")));
        }
        Ok(Self { id: None, algorithm, material })
    }

    /// Whether who can verify can sign as well.
    pub fn is_secret(&self) -> bool {
        self.algorithm.least_secret().is_some()
    }

    /// Whether `signature` (base64url) is this key's under `message`.
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.material, self.algorithm.outside()).unwrap_or(false)
    }
}

fn on_curve(
    algorithm: &'static signature::EcdsaVerificationAlgorithm,
    point: &[u8],
) -> Result<DecodingKey, &'static str> {
    ParsedPublicKey::new(algorithm, point).map_err(|_| "is not a point of its curve")?;
    Ok(DecodingKey::from_ec_der(point))
}

/// Large enough, with an exponent that encrypts, and not made by the chips whose primes can be guessed.
fn strong_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), String> {
    let significant = |bytes: &[u8]| -> usize {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros).map_or(0, |first| (bytes.len() - zeros) * 8 - first.leading_zeros() as usize)
    };
    let bits = significant(modulus);
    if !(LEAST_BITS..=MOST_BITS).contains(&bits) {
        return Err(format!("has {bits} bits, and RSA needs {LEAST_BITS} to {MOST_BITS}"));
    }
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|last| last & 1 == 1);
    if !odd(exponent) || !(2..=32).contains(&significant(exponent)) || !odd(modulus) {
        return Err("has a public exponent or modulus that no RSA key has".to_owned());
    }
    if guessable(modulus) {
        return Err("has the mark of keys whose primes can be guessed (CVE-2017-15361)".to_owned());
    }
    Ok(())
}

/// The mark of ROCA: modulo each small prime, the modulus is a power of 65537.
fn guessable(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut powers = std::iter::successors(Some(1), |power| Some(power * 65537 % prime)).take(*prime as usize);
        powers.any(|power| power == rest)
    })
}
