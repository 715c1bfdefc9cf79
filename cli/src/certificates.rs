//! Certificates for a fleet: an authority, and what it signs. Pure but for the keys' randomness.

use anyhow::{Context as _, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use x509_parser::{extensions::GeneralName, pem::Pem};

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Seconds since the Unix epoch.
    pub(crate) begin: i64,
    /// The same.
    pub(crate) end: i64,
    /// Names and addresses, sorted.
    pub(crate) hosts: Vec<String>,
}

/// Days that an authority holds: rotating it means touching every node.
const AUTHORITY_DAYS: i64 = 3650;
/// Clocks of edge nodes may be behind by so many seconds when they first start.
const BACKDATED: i64 = 24 * 3600;

/// A new authority.
pub(crate) fn authority(name: &str, now: i64) -> Result<Signed> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    span(&mut params, now, AUTHORITY_DAYS)?;
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok(Signed {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

/// A certificate for both ends of a connection, signed by an authority.
pub(crate) fn sign(
    authority: &Signed,
    name: &str,
    hosts: &[String],
    days: i64,
    now: i64,
) -> Result<Signed> {
    let key = KeyPair::from_pem(&authority.key).context("the authority's key cannot be read")?;
    let issuer = Issuer::from_ca_cert_pem(&authority.cert, key)
        .context("the authority's certificate cannot be read")?;
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    span(&mut params, now, days)?;
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, &issuer)?;
    Ok(Signed {
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

fn span(params: &mut CertificateParams, now: i64, days: i64) -> Result<()> {
    let at = |seconds: i64| {
        let date = jiff::Timestamp::from_second(seconds)?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        let part = |number: i8| u8::try_from(number);
        anyhow::Ok(rcgen::date_time_ymd(
            i32::from(date.year()),
            part(date.month())?,
            part(date.day())?,
        ))
    };
    params.not_before = at(now - BACKDATED)?;
    params.not_after = at(now + days * 24 * 3600)?;
    Ok(())
}

/// What the first certificate of a PEM file says.
pub(crate) fn read(pem: &[u8]) -> Result<Facts> {
    let Some(first) = Pem::iter_from_buffer(pem).next() else {
        bail!("there is no certificate in it");
    };
    let first = first.context("it is no PEM")?;
    let cert = first.parse_x509().context("it is no certificate")?;
    let names = cert.subject_alternative_name().ok().flatten();
    let mut hosts: Vec<String> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    hosts.sort_unstable();
    Ok(Facts {
        begin: cert.validity().not_before.timestamp(),
        end: cert.validity().not_after.timestamp(),
        hosts,
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|b| std::net::Ipv4Addr::from(b).to_string()),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|b| std::net::Ipv6Addr::from(b).to_string()),
        _ => None,
    }
}

/// Why a certificate has to be made anew; `None` when it is good for a while.
pub(crate) fn stale(facts: &Facts, hosts: &[String], now: i64) -> Option<String> {
    let left = facts.end - now;
    if left * 3 < facts.end - facts.begin {
        return Some(format!(
            "it holds for {} more days only",
            left.max(0) / (24 * 3600)
        ));
    }
    let missing: Vec<_> = hosts
        .iter()
        .filter(|host| !facts.hosts.contains(host))
        .collect();
    (!missing.is_empty()).then(|| format!("it lacks {missing:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;
    const NOW: i64 = 1_700_000_000;

    #[test]
    fn what_was_signed_says_what_was_asked() {
        let authority = authority("a fleet", NOW).expect("authority");
        let hosts = ["center.edge.svc", "*.workers.edge.svc", "10.0.0.7", "::1"].map(String::from);
        let signed = sign(&authority, "center", &hosts, 90, NOW).expect("certificate");
        let facts = read(signed.cert.as_bytes()).expect("facts");
        assert_eq!(
            facts.hosts,
            ["*.workers.edge.svc", "10.0.0.7", "::1", "center.edge.svc"]
        );
        assert!((facts.end - NOW - 90 * DAY).abs() <= DAY);
        assert_eq!(stale(&facts, &hosts, NOW), None);
        assert!(stale(&facts, &hosts, NOW + 62 * DAY).is_some());
        assert!(stale(&facts, &["other".into()], NOW).is_some_and(|why| why.contains("other")));
        let again = sign(&authority, "center", &hosts, 90, NOW).expect("certificate");
        assert!(again.key != signed.key);
        assert!(read(b"nothing").is_err());
    }
}
