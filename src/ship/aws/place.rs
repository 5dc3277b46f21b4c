//! Where S3 is, and how it is asked.

use object_store::aws::AmazonS3Builder;
use object_store::{ClientOptions, RetryConfig};
use reqwest::Url;

use crate::ship::aws::{Failure, Settings, region, suffix};

/// The region of a bucket, and its address.
#[derive(Debug)]
pub(in crate::ship) struct Place {
    region: String,
    /// Another address than that which follows from the region.
    endpoint: Option<String>,
}

impl Place {
    /// As the configuration and the environment say.
    pub(in crate::ship) async fn of(
        endpoint: Option<&str>,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let endpoint = endpoint.or_else(|| settings.endpoint("S3"));
        let mut endpoint = endpoint.map(|e| e.trim_end_matches('/').to_owned());
        let region = match (region(settings).await, &endpoint) {
            (Ok(region), _) => region,
            // other servers have no regions, and sign with this one
            (Err(_), Some(_)) => "us-east-1".to_owned(),
            (Err(failure), None) => return Err(failure),
        };
        let suffix = suffix(&region);
        if endpoint.is_none() && suffix != "amazonaws.com" {
            endpoint = Some(format!("https://s3.{region}.{suffix}"));
        }
        Ok(Self { region, endpoint })
    }

    /// The address that takes the place of AWS's own.
    pub(in crate::ship) fn url(&self) -> Option<Url> {
        self.endpoint.as_deref().and_then(|e| Url::parse(e).ok())
    }

    /// Encryption on the way is a must unless the endpoint says otherwise.
    pub(in crate::ship) fn options(&self) -> ClientOptions {
        let endpoint = self.endpoint.as_deref().unwrap_or_default();
        ClientOptions::new().with_allow_http(endpoint.starts_with("http://"))
    }

    /// Asks for nothing twice.
    pub(in crate::ship) fn builder(&self, bucket: &str) -> AmazonS3Builder {
        let never = RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        };
        let builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&self.region)
            .with_retry(never)
            .with_client_options(self.options());
        match &self.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint),
            // a certificate is for one step before the name: a bucket with dots in its name goes into the path
            None => builder.with_virtual_hosted_style_request(!bucket.contains('.')),
        }
    }
}
