//! Generated messages and their checked forms.

#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications)]
pub mod proto {
    tonic::include_proto!("blindbook.v1");
}
