//! `samlora serve`: the page and model packages over HTTP, from this machine alone.

mod tiles;

use super::say;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clap::Args;
use samlora::error::{Error, ErrorKind, Result};
use samlora::weights::manifest::MANIFEST_FILE;
use serde_json::{Value, json};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

/// Serves the page and packages to a browser; needs no internet.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A package's folder, served under /models/<folder name>/; may be given several times
    #[arg(long, value_name = "PACKAGE_DIR")]
    model: Vec<PathBuf>,
    /// A folder of XYZ tiles (z/x/y.png), a .pmtiles or an .mbtiles archive for the page's map, served under /tiles/<name>/; may be
    /// given several times
    #[arg(long, value_name = "TILES")]
    tiles: Vec<PathBuf>,
    /// The built page's folder [default: www/dist, here or beside the program]
    #[arg(long, value_name = "DIR")]
    www: Option<PathBuf>,
    /// Port to listen on; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Address to listen on; 0.0.0.0 lets other machines in
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Send COOP and COEP headers, so that the page is cross-origin isolated (shared memory, precise timers)
    #[arg(long)]
    isolated: bool,
    /// Print one line of JSON once listening: url, port, models
    #[arg(long)]
    json: bool,
}

/// Runs the command until Ctrl-C.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a missing page or package, [`ErrorKind::Invalid`] for two packages of one name,
/// [`ErrorKind::Io`] if the address cannot be listened on.
pub fn run(args: &ServeArgs) -> Result<()> {
    let packages = packages(&args.model)?;
    let layers = tiles::layers(&args.tiles)?;
    let page = page(args.www.as_deref(), !packages.is_empty())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let address = SocketAddr::new(args.host, args.port);
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).map_err(|e| {
        Error::from(e).at(format!("http://{address}/")).remedy("choose another --port (0 takes any free one) or --host")
    })?;
    let address = listener.local_addr()?;
    // Before the address is said: whoever reads it may stop this at once.
    let stopped = {
        let _context = runtime.enter();
        stopping()?
    };
    let url = format!("http://{address}/");
    let names: Vec<&String> = packages.keys().collect();
    if args.json {
        say(format_args!("{}", json!({ "url": url, "port": address.port(), "models": names })))?;
    } else {
        say(format_args!("{url}"))?;
        for name in &names {
            say(format_args!("{url}models/{name}/"))?;
        }
    }
    std::io::stdout().flush()?;

    let mut router = router(page.as_deref(), packages, layers, args.isolated)?;
    if args.host.is_loopback() {
        router = router.layer(from_fn(only_local_names));
    }
    runtime.spawn(async move { axum::serve(listener, router).await });
    runtime.block_on(stopped);
    // Open connections are cut: nothing here is written, so nothing can be left half done.
    runtime.shutdown_background();
    Ok(())
}

/// Listens for Ctrl-C, and for the polite signal of service managers, from now on; the future waits for either.
fn stopping() -> Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(std::future::poll_fn(move |context| match interrupt.poll_recv(context) {
            std::task::Poll::Pending => terminate.poll_recv(context).map(drop),
            ready => ready.map(drop),
        }))
    }
    #[cfg(not(unix))]
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// The packages by the name in their URL.
fn packages(folders: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let mut packages = BTreeMap::new();
    for folder in folders {
        let place = |e: std::io::Error| Error::from(e).at(folder.display());
        let root = folder.canonicalize().map_err(place)?;
        if !root.join(MANIFEST_FILE).is_file() {
            let error =
                Error::new(ErrorKind::NotFound, format!("this is no package folder: it holds no {MANIFEST_FILE}"));
            return Err(error.at(folder.display()).remedy("write one with `samlora export`"));
        }
        let name = url_name(&root);
        check_name(&name, packages.contains_key(&name), folder, "packages")?;
        packages.insert(name, root);
    }
    Ok(packages)
}

/// A folder's name with anything unusual as `-`.
fn url_name(folder: &Path) -> String {
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect()
}

/// Refuses a name that another of the `kind` has, or that would hide their list.
fn check_name(name: &str, is_taken: bool, folder: &Path, kind: &str) -> Result<()> {
    if !is_taken && !name.is_empty() && name != "index.json" {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Invalid, format!("the name {name:?} is taken"))
        .at(folder.display())
        .remedy(format!("rename the folder; {kind} are told apart by their folders' names")))
}

/// The page's folder; none only if it was not asked for and there are packages to serve.
fn page(asked: Option<&Path>, has_packages: bool) -> Result<Option<PathBuf>> {
    let remedy = "build the page with `make demo`, or name its folder with --www";
    if let Some(folder) = asked {
        let found = folder.canonicalize().ok().filter(|f| f.is_dir());
        let missing = || Error::new(ErrorKind::NotFound, "there is no such folder").at(folder.display()).remedy(remedy);
        return found.ok_or_else(missing).map(Some);
    }
    let program = std::env::current_exe().ok();
    let beside = program.iter().flat_map(|p| p.ancestors().skip(1).take(4)).map(|folder| folder.join("www/dist"));
    let found = std::iter::once(PathBuf::from("www/dist")).chain(beside).find(|f| f.join("index.html").is_file());
    match found {
        Some(folder) => Ok(Some(folder.canonicalize().map_err(|e| Error::from(e).at(folder.display()))?)),
        None if has_packages => {
            eprintln!("no page is built, only packages are served ({remedy})");
            Ok(None)
        }
        None => {
            Err(Error::new(ErrorKind::NotFound, "there is nothing to serve: no page and no package").remedy(remedy))
        }
    }
}

fn router(
    page: Option<&Path>,
    packages: BTreeMap<String, PathBuf>,
    layers: Vec<tiles::TileLayer>,
    isolated: bool,
) -> Result<Router> {
    let mut router = Router::new();
    for layer in &layers {
        let inner = match &layer.origin {
            tiles::Origin::Folder(folder) => folder_router(folder, Some(TILE_FILES)),
            tiles::Origin::Archive(source) => {
                Router::new().route("/{z}/{x}/{y}", get(tiles::archived)).with_state(Arc::clone(source))
            }
        };
        router = router.nest(&format!("/tiles/{}", layer.name), inner);
    }
    for (name, folder) in &packages {
        router = router.nest(&format!("/models/{name}"), folder_router(folder, Some(PACKAGE_FILES)));
    }
    let json = HeaderValue::from_static("application/json");
    let known = tiles::index(&layers).to_string();
    let of_tiles = [(header::CONTENT_TYPE, json.clone())];
    router = router.route("/tiles/index.json", get(move || std::future::ready((of_tiles, known))));
    let index = move || std::future::ready(([(header::CONTENT_TYPE, json)], index(&packages).to_string()));
    router = router.route("/models/index.json", get(index));
    if let Some(folder) = page {
        router = router.fallback_service(folder_router(folder, None));
    }
    let mut headers = vec![
        // Ask again each time (cheap: the file's date): a package that is exported anew must not be mixed with the old.
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if isolated {
        headers.push((header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"));
        headers.push((header::HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"));
        headers.push((header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"));
    }
    for (name, value) in headers {
        router = router.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)));
    }
    Ok(router)
}

/// What a package's folder is served of, and a folder of tiles: a stranger's package must not bring pages and scripts that run
/// with the rights of this server's own.
const PACKAGE_FILES: &[&str] = &["json", "safetensors", "md", "txt"];
const TILE_FILES: &[&str] = &["png", "jpg", "jpeg", "webp"];

/// A folder that is served, and the extensions of the files in it that are; none for all.
#[derive(Clone)]
struct Served {
    root: Arc<Path>,
    extensions: Option<&'static [&'static str]>,
}

/// The files under `root`: content types by extension, byte ranges, `index.html` for folders.
fn folder_router(root: &Path, extensions: Option<&'static [&'static str]>) -> Router {
    let served = Served { root: root.into(), extensions };
    Router::new().fallback_service(ServeDir::new(root)).layer(from_fn_with_state(served, stay_inside))
}

/// Refuses paths that leave the folder, by dots or through a symbolic link (`ServeDir` follows links), and files that it is not
/// served of.
async fn stay_inside(State(served): State<Served>, request: Request, next: Next) -> Response {
    let inside = decoded(request.uri().path()).is_some_and(|path| {
        let relative = Path::new(path.trim_start_matches('/'));
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let extension = relative.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let wanted = served.extensions.is_none_or(|known| known.contains(&extension.as_str()));
        // What does not exist cannot leave; `ServeDir` answers that it is not there.
        plain && wanted && served.root.join(relative).canonicalize().map_or(true, |real| real.starts_with(&served.root))
    });
    if inside { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

/// Refuses requests under another name than this machine's own: a page on the internet whose name was made to point here
/// (DNS rebinding) would otherwise read what is served.
async fn only_local_names(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let name =
        host.map(|host| host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(n, _)| n));
    let is_local = |name: &str| {
        name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    if name.is_none_or(is_local) {
        return next.run(request).await;
    }
    let message = "this server answers under the names localhost and 127.0.0.1; start it with --host to serve others\n";
    (StatusCode::MISDIRECTED_REQUEST, message).into_response()
}

/// `path` with its percent escapes resolved; `None` if that is no text or holds a null byte or a backslash.
fn decoded(path: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), path.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                (digit(rest.next())? * 16 + digit(rest.next())?) as u8 // below 256
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().filter(|path| !path.contains(['\0', '\\']))
}

/// What `/models/index.json` says, read anew each time: name, URL, manifest and sizes in bytes of every package.
fn index(packages: &BTreeMap<String, PathBuf>) -> Value {
    let entry = |(name, folder): (&String, &PathBuf)| {
        let size = |path: PathBuf| path.metadata().map_or(0, |m| if m.is_file() { m.len() } else { 0 });
        let files = folder.read_dir().into_iter().flatten().flatten();
        json!({
            "name": name,
            "url": format!("/models/{name}/"),
            "manifest": format!("/models/{name}/{MANIFEST_FILE}"),
            "manifest_bytes": size(folder.join(MANIFEST_FILE)),
            "bytes": files.map(|f| size(f.path())).sum::<u64>(),
        })
    };
    json!({ "models": packages.iter().map(entry).collect::<Vec<_>>() })
}
