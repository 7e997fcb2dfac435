//! `authenticate` of a profile becomes the credentials that let a caller in.

use crate::config::document::{AuthenticateSpec, Document, ProfileSpec};
use crate::config::faults::Faults;
use crate::identity::{Accepted, Method};

/// Compiles what a profile, found at `pointer`, accepts.
pub(super) fn compile(
    spec: &ProfileSpec,
    document: &Document,
    pointer: &str,
    faults: &mut Faults,
) -> Accepted {
    let Some(written) = &spec.authenticate else {
        // every configured method: what a caller sends wins over what its connection has anyway
        let all = [Method::ApiKey, Method::Jwt, Method::Introspection, Method::Mtls].into_iter();
        return Accepted::Any(all.filter(|method| unconfigured(*method, document).is_none()).collect());
    };
    let pointer = format!("{pointer}/authenticate");
    let spec = match serde_json::from_value::<AuthenticateSpec>(written.clone()) {
        Ok(spec) => spec,
        Err(error) => {
            faults.at(pointer, error.to_string(), "write `none` or `{any: [api_key]}`");
            return Accepted::Any(Vec::new());
        }
    };
    match (&spec.any, &spec.all) {
        (Some(any), None) => {
            if spec.principal.is_some() {
                faults.at(
                    format!("{pointer}/principal"),
                    "of `any` the first credential presented decides",
                    "leave `principal` out, or write `all`",
                );
            }
            Accepted::Any(methods(any, &format!("{pointer}/any"), document, faults))
        }
        (None, Some(all)) => {
            let methods = methods(all, &format!("{pointer}/all"), document, faults);
            if methods.contains(&Method::Jwt) && methods.contains(&Method::Introspection) {
                faults.at(
                    format!("{pointer}/all"),
                    "a request has one bearer token, which is signed or opaque",
                    "write `jwt` or `introspection`",
                );
            }
            let principal = spec.principal.as_deref().and_then(Method::named);
            if spec.principal.is_some() && !principal.is_some_and(|method| methods.contains(&method)) {
                faults.at(
                    format!("{pointer}/principal"),
                    "this is not one of `all`",
                    "name the credential whose identity decides",
                );
            }
            Accepted::All { methods, principal }
        }
        (Some(_), Some(_)) | (None, None) => {
            faults.at(pointer, "not exactly one of `any` and `all`", "write one of them");
            Accepted::Any(Vec::new())
        }
    }
}

fn methods(names: &[String], pointer: &str, document: &Document, faults: &mut Faults) -> Vec<Method> {
    if names.is_empty() {
        faults.at(pointer, "an empty list", "name at least one method: `api_key`");
    }
    let mut methods = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        let Some(method) = Method::named(name) else {
            faults.at(
                pointer,
                format!("no method is called `{name}`"),
                "write `api_key`, `jwt`, `introspection` or `mtls`",
            );
            continue;
        };
        if methods.contains(&method) {
            faults.at(&pointer, format!("`{name}` is written twice"), "keep one of the two");
        }
        if let Some((what, remedy)) = unconfigured(method, document) {
            faults.at(&pointer, what, remedy);
        }
        methods.push(method);
    }
    methods
}

/// Why nobody can show a credential of this kind, and what to write. Keys need no words of their own.
fn unconfigured(method: Method, document: &Document) -> Option<(&'static str, &'static str)> {
    let authentication = &document.authentication;
    match method {
        Method::Jwt if authentication.jwt.providers.is_empty() => {
            Some(("no issuer is configured", "write `authentication.jwt.providers`"))
        }
        Method::Introspection if authentication.introspection.is_empty() => {
            Some(("no endpoint is configured", "write `authentication.introspection`"))
        }
        Method::Mtls if authentication.mtls.is_none() => {
            Some(("certificates are not configured", "write `authentication.mtls`"))
        }
        Method::ApiKey | Method::Jwt | Method::Introspection | Method::Mtls => None,
    }
}
