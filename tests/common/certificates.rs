//! Certificates of a server and its partners, all by one authority, and what it
//! revoked.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use tonic::transport::Identity;

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// What a client's certificate says; by default one that is good for long.
pub(crate) struct Client<'a> {
    pub(crate) uris: &'a [&'a str],
    /// Years in which it begins and ends.
    pub(crate) years: (i32, i32),
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) serial: u64,
}

impl Default for Client<'_> {
    fn default() -> Self {
        let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Self { uris: &[], years: (1990, 2090), usages, serial: 1 }
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key of a server on this machine.
    pub(crate) fn server(&self) -> (String, String) {
        let names = ["localhost", "127.0.0.1"].map(String::from);
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// Certificate and key of a client.
    pub(crate) fn client(&self, client: &Client<'_>) -> (String, String) {
        let mut params = CertificateParams::new(vec!["partner.example".to_owned()]).unwrap();
        let uris = client.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.extended_key_usages.clone_from(&client.usages);
        params.serial_number = Some(SerialNumber::from(client.serial));
        params.not_before = date_time_ymd(client.years.0, 1, 1);
        params.not_after = date_time_ymd(client.years.1, 1, 1);
        self.issue(&params)
    }

    /// Certificate and key of a partner with these URIs.
    pub(crate) fn partner(&self, uris: &[&str]) -> Identity {
        let (cert, key) = self.partner_pem(uris);
        Identity::from_pem(cert, key)
    }

    /// The same, as text.
    #[allow(dead_code, reason = "shared with tests that need no text")]
    pub(crate) fn partner_pem(&self, uris: &[&str]) -> (String, String) {
        self.client(&Client { uris, ..Client::default() })
    }

    /// A list that revokes these serial numbers, good until a year begins.
    pub(crate) fn revokes(&self, serials: &[u64], until: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn issue(&self, params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}
