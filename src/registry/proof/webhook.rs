//! Hands codes to whoever delivers them: one HTTPS POST for each, with a JSON
//! object, to an address that the operator names. Only an answer of 2xx counts;
//! nothing is tried twice, since a second message would confuse its reader.

use std::{fmt, net::IpAddr, time::Duration};

use async_trait::async_trait;
use serde::Serialize;
use ureq::{
    Agent,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};
use zeroize::Zeroizing;

use super::{CodeMessage, CodeSender, ProofError, SendError};
use crate::tls::provider;

/// What a delivery may take in all.
const DEADLINE: Duration = Duration::from_secs(10);

/// Sends codes through a webhook.
pub struct WebhookSender {
    agent: Agent,
    url: String,
    /// `Bearer` and the token.
    authorization: Option<Zeroizing<String>>,
}

/// What is posted.
#[derive(Serialize)]
struct Posted<'a> {
    /// `tel:+14155550100` or `mailto:alice@mail.example`.
    to: &'a str,
    provider: &'a str,
    text: &'a str,
    /// 32 hexadecimal digits: names the message, for a receiver that gets it
    /// twice on its own side.
    id: String,
    expires_s: u64,
}

impl fmt::Debug for WebhookSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSender(..)")
    }
}

impl WebhookSender {
    /// Posts to `url`, with `token` as a bearer token if there is one. Its
    /// certificate must come from one of `roots_pem`, or from the Web's roots if
    /// none are given. Plain HTTP goes to this machine alone.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: the address, the token or the roots cannot be.
    pub fn new(
        url: &str,
        token: Option<&str>,
        roots_pem: Option<&[u8]>,
    ) -> Result<Self, ProofError> {
        check(url)?;
        let printable = |token: &&str| token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.is_some_and(|token| token.is_empty() || !printable(&token)) {
            return Err(ProofError::Setting(
                "a webhook's token is printable ASCII, without spaces",
            ));
        }
        let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider());
        if let Some(pem) = roots_pem {
            let refused =
                ProofError::Setting("a webhook's roots are certificates in PEM, at least one");
            let roots: Result<Vec<_>, _> = parse_pem(pem)
                .map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Ok(certificate),
                    _ => Err(()),
                })
                .collect();
            match roots {
                Ok(roots) if !roots.is_empty() => {
                    tls = tls.root_certs(RootCerts::new_with_certs(&roots));
                }
                _ => return Err(refused),
            }
        }
        let config = Agent::config_builder()
            .timeout_global(Some(DEADLINE))
            // A code goes to the address that was named and to no other.
            .max_redirects(0)
            .proxy(None)
            .tls_config(tls.build())
            .build();
        let authorization = token.map(|token| Zeroizing::new(format!("Bearer {token}")));
        Ok(Self { agent: config.into(), url: url.into(), authorization })
    }
}

#[async_trait]
impl CodeSender for WebhookSender {
    async fn send(&self, message: CodeMessage) -> Result<(), SendError> {
        let (agent, url) = (self.agent.clone(), self.url.clone());
        let authorization = self.authorization.clone();
        let post = move || {
            let posted = Posted {
                to: message.to.as_str(),
                provider: message.provider.as_str(),
                text: &message.text,
                id: format!("{:032x}", u128::from_be_bytes(message.id)),
                expires_s: message.expires_s,
            };
            let body = Zeroizing::new(serde_json::to_vec(&posted).map_err(|_| "it has no JSON")?);
            let mut request = agent.post(url).header("content-type", "application/json");
            if let Some(authorization) = &authorization {
                request = request.header("authorization", authorization.as_str());
            }
            match request.send(body.as_slice()) {
                Ok(response) if response.status().is_success() => Ok(()),
                Ok(_) => Err("the webhook did not take it"),
                Err(error) => Err(told(&error)),
            }
        };
        tokio::task::spawn_blocking(post)
            .await
            .map_err(|error| SendError(error.into()))?
            .map_err(|told| SendError(told.into()))
    }
}

/// What may be told of a failure: neither address nor message.
const fn told(error: &ureq::Error) -> &'static str {
    match error {
        ureq::Error::StatusCode(_) => "the webhook refused it",
        ureq::Error::Timeout(_) => "the webhook did not answer in time",
        ureq::Error::HostNotFound => "the webhook's host is not known",
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "the webhook's certificate is not trusted",
        _ => "the webhook could not be reached",
    }
}

fn check(url: &str) -> Result<(), ProofError> {
    let refused = || {
        ProofError::Setting(
            "a webhook is an https:// address; http:// serves only for 127.0.0.1, [::1] or \
             localhost",
        )
    };
    let uri: http::Uri = url.parse().map_err(|_| refused())?;
    let host = uri.host().ok_or_else(refused)?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if here => Ok(()),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;
    use crate::identifier::{Provider, Sii};

    fn message() -> CodeMessage {
        CodeMessage {
            to: Sii::from_canonical("tel:+14155550100").unwrap(),
            provider: Provider::parse("wa.example").unwrap(),
            text: Zeroizing::new("12345678 is \"your\" code".into()),
            id: [7; 16],
            expires_s: 9,
        }
    }

    /// Answers one request, and gives what came.
    fn receiver(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/codes", listener.local_addr().unwrap());
        let receiving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut came = Vec::new();
            let mut piece = [0; 4096];
            while !came.ends_with(b"}") {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0);
                came.extend_from_slice(&piece[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(came).unwrap()
        });
        (url, receiving)
    }

    #[tokio::test]
    async fn a_code_is_posted_once_with_its_token() {
        let (url, receiving) = receiver("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n");
        let sender = WebhookSender::new(&url, Some("secret"), None).unwrap();
        sender.send(message()).await.unwrap();
        let came = receiving.join().unwrap();
        assert!(came.starts_with("POST /codes HTTP/1.1\r\n"), "{came}");
        assert!(came.to_ascii_lowercase().contains("authorization: bearer secret\r\n"), "{came}");
        let (_, body) = came.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let expected = serde_json::json!({
            "to": "tel:+14155550100",
            "provider": "wa.example",
            "text": "12345678 is \"your\" code",
            "id": "07070707070707070707070707070707",
            "expires_s": 9,
        });
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn anything_but_success_is_a_failure_that_tells_neither_address_nor_code() {
        for answer in [
            "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 307 Elsewhere\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            let (url, receiving) = receiver(answer);
            let sender = WebhookSender::new(&url, None, None).unwrap();
            let told = sender.send(message()).await.unwrap_err().to_string();
            receiving.join().unwrap();
            for canary in ["1415555", "12345678", "127.0.0.1", "codes"] {
                assert!(!told.contains(canary), "{told}");
            }
        }
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sender = WebhookSender::new(&format!("http://{nobody}/"), None, None).unwrap();
        let told = sender.send(message()).await.unwrap_err().to_string();
        assert!(told.contains("could not be reached"), "{told}");
    }

    #[test]
    fn addresses_tokens_and_roots_that_cannot_be_are_refused() {
        let new = |url| WebhookSender::new(url, None, None);
        for good in ["https://sms.example/send?x=1", "http://localhost:8080/", "http://[::1]/"] {
            assert!(new(good).is_ok(), "{good}");
        }
        for bad in ["", "sms.example", "http://sms.example/", "ftp://sms.example/", "https:///x"] {
            assert!(matches!(new(bad), Err(ProofError::Setting(_))), "{bad}");
        }
        for token in ["", "two words", "line\n"] {
            let refused = WebhookSender::new("https://sms.example/", Some(token), None);
            assert!(matches!(refused, Err(ProofError::Setting(_))));
        }
        for roots in [&b""[..], b"-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n"] {
            let refused = WebhookSender::new("https://sms.example/", None, Some(roots));
            assert!(matches!(refused, Err(ProofError::Setting(_))));
        }
    }
}
