//! Certificates for development: a CA whose key is thrown away, a server
//! certificate for this machine, and those of an administrator and a partner.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use zeroize::Zeroizing;

/// PEM texts.
pub(crate) struct DevTls {
    pub(crate) ca: String,
    pub(crate) cert: String,
    pub(crate) key: Zeroizing<String>,
    /// Certificate and key of a client with the URI `spiffe://localhost/admin`.
    pub(crate) admin: (String, Zeroizing<String>),
    /// The same, with `spiffe://localhost/partner`.
    pub(crate) partner: (String, Zeroizing<String>),
}

impl DevTls {
    /// A CA, and a certificate of it for `localhost`, `127.0.0.1` and `::1`.
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        let mut ca = CertificateParams::new(Vec::<String>::new())?;
        ca.distinguished_name = name("Blindbook development CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_key = KeyPair::generate()?;
        let ca_cert = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let mut server = CertificateParams::new(names)?;
        server.distinguished_name = name("Blindbook development server");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let cert = server.signed_by(&key, &issuer)?;
        let client = |uri: &str| -> Result<_, rcgen::Error> {
            let mut client = CertificateParams::new(Vec::<String>::new())?;
            client.distinguished_name = name("Blindbook development client");
            client.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
            client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate()?;
            let cert = client.signed_by(&key, &issuer)?;
            Ok((cert.pem(), Zeroizing::new(key.serialize_pem())))
        };
        Ok(Self {
            ca: ca_cert.pem(),
            cert: cert.pem(),
            key: Zeroizing::new(key.serialize_pem()),
            admin: client("spiffe://localhost/admin")?,
            partner: client("spiffe://localhost/partner")?,
        })
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}
