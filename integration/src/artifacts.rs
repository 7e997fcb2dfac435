//! What is under test: the filter, the command and the probe, each built once per process, and the pinned Envoy.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, bail};

/// The Envoy that every proof speaks of; `MLGATE_ENVOY_VERSION` asks for another.
pub const ENVOY_VERSION: &str = "1.40.0";

/// The repository's root.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A path as one would type it from the repository's root.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The Envoy binary, installed into `build/` when it is missing; `MLGATE_ENVOY` names another one.
pub fn envoy() -> anyhow::Result<PathBuf> {
    once(&ENVOY, || {
        if let Some(path) = std::env::var_os("MLGATE_ENVOY") {
            return Ok(PathBuf::from(path));
        }
        let version = std::env::var("MLGATE_ENVOY_VERSION").unwrap_or_else(|_| ENVOY_VERSION.to_owned());
        installed("envoy", &[&version])
    })
}

/// The folder with the OpenID provider of the tests and the `node` that runs it, installed into `build/` when it is
/// missing.
pub fn openid_provider() -> anyhow::Result<PathBuf> {
    once(&OPENID_PROVIDER, || installed("openid-provider", &[]))
}

/// The minor version of [`envoy`]: 40 for Envoy 1.40.0.
pub fn envoy_minor() -> anyhow::Result<u32> {
    let output = Command::new(envoy()?).arg("--version").output().context("cannot run envoy --version")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // <path>  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL
    let version = text.split("version: ").nth(1).and_then(|rest| rest.split('/').nth(1));
    let minor = version.and_then(|version| version.split('.').nth(1)?.parse().ok());
    minor.with_context(|| format!("no version in `{}`", text.trim()))
}

/// `dist/mlgate.wasm`, built now; `MLGATE_WASM` names a ready one.
pub fn filter_wasm() -> anyhow::Result<PathBuf> {
    once(&FILTER, || {
        if let Some(path) = std::env::var_os("MLGATE_WASM") {
            return Ok(PathBuf::from(path));
        }
        finish(&mut Command::new(root().join("integration/build-filter.sh")))?;
        install("wasm32-wasip1/wasm/mlgate.wasm", "mlgate.wasm")
    })
}

/// The command `mlgate`, built now in the debug profile; `MLGATE_COMMAND` names a ready one.
pub fn command() -> anyhow::Result<PathBuf> {
    once(&COMMAND, || {
        if let Some(path) = std::env::var_os("MLGATE_COMMAND") {
            return Ok(PathBuf::from(path));
        }
        build(&["build", "--bin", "mlgate"], &["--features", "cli", "-p", "mlgate"], root())?;
        Ok(target().join("debug/mlgate"))
    })
}

/// The probe of `integration/probe`: a filter that does one thing with the host at a time.
pub fn probe_wasm() -> anyhow::Result<PathBuf> {
    once(&PROBE, || {
        let folder = root().join("integration/probe");
        build(&["build", "--release"], &["--target", "wasm32-wasip1"], &folder)?;
        Ok(target().join("wasm32-wasip1/release/mlgate_probe.wasm"))
    })
}

static COMMAND: Artifact = OnceLock::new();
static ENVOY: Artifact = OnceLock::new();
static FILTER: Artifact = OnceLock::new();
static OPENID_PROVIDER: Artifact = OnceLock::new();
static PROBE: Artifact = OnceLock::new();

type Artifact = OnceLock<Result<PathBuf, String>>;

fn once(artifact: &Artifact, make: impl FnOnce() -> anyhow::Result<PathBuf>) -> anyhow::Result<PathBuf> {
    artifact.get_or_init(|| make().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

/// Runs `integration/install-<what>.sh`, which prints a path.
fn installed(what: &str, arguments: &[&str]) -> anyhow::Result<PathBuf> {
    let _turn = lock(what)?;
    let name = format!("install-{what}.sh");
    let script = root().join("integration").join(&name);
    let output =
        Command::new(script).args(arguments).output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

fn build(what: &[&str], how: &[&str], folder: &Path) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    finish(Command::new(cargo).args(what).args(["--locked", "--quiet"]).args(how).current_dir(folder))
}

/// Runs what builds something.
fn finish(command: &mut Command) -> anyhow::Result<()> {
    let _turn = lock("cargo")?;
    let output = command.env("CARGO_TARGET_DIR", target()).output();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Puts a built file into `dist/`, whole or not at all, since another stack may be reading it.
fn install(built: &str, name: &str) -> anyhow::Result<PathBuf> {
    let _turn = lock("dist")?;
    let built = target().join(built);
    let path = root().join("dist").join(name);
    fs::create_dir_all(root().join("dist"))?;
    let content = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if fs::read(&path).is_ok_and(|present| present == content) {
        return Ok(path);
    }
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    fs::write(&draft, content)?;
    fs::rename(&draft, &path)?;
    Ok(path)
}

/// One build at a time on this checkout, whatever number of test processes; released when dropped.
fn lock(name: &str) -> anyhow::Result<File> {
    let folder = root().join("build");
    fs::create_dir_all(&folder)?;
    let file = File::create(folder.join(format!(".{name}.lock")))?;
    file.lock()?;
    Ok(file)
}
