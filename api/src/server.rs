use std::{convert::Infallible, io, sync::Arc, time::Duration};

use companion::settings::CorsOrigins;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{connection, connections::Connections, edge, state::State};

/// The longest that requests under way may take once the service was told to stop: longer than the longest chat, which
/// waits for a model.
const GRACE: Duration = Duration::from_secs(25);

/// The pause before connections are taken again after the system refused one.
const RETRY_ACCEPT: Duration = Duration::from_millis(200);
/// File descriptors for the database, Redis, the broker, channels and logs.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Why the API does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be used.
    #[error("cannot listen on {host}:{port}: {source}{}", hint(source))]
    Bind {
        /// `API_HOST`.
        host: String,
        /// `PORT` or `API_PORT`.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// Signals cannot be awaited.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "\nhint: another program uses the port; set API_PORT to a free one",
        io::ErrorKind::PermissionDenied => {
            "\nhint: ports below 1024 need privileges; set API_PORT to a higher one"
        }
        _ => "",
    }
}

/// Serves the API until SIGTERM or SIGINT; requests under way are finished within 25 s.
///
/// Not cancel safe: dropping the future ends the requests under way.
///
/// # Errors
/// [`ServeError::Bind`] when the address cannot be used, [`ServeError::Signals`] when signals cannot be awaited.
pub async fn serve(state: State, (host, port): (String, u16)) -> Result<(), ServeError> {
    let listener = match TcpListener::bind((host.as_str(), port)).await {
        Ok(listener) => listener,
        Err(source) => return Err(ServeError::Bind { host, port, source }),
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or(host);
    let limit = connection_limit(state.companion.settings.api_max_connections);
    log::info!(address = address, max_connections = limit; "The API listens on http://{address}");

    let connections = Connections::new(limit);
    let stopping = CancellationToken::new();
    tokio::select! {
        never = accept(&listener, &connections, &state, &stopping) => match never {},
        () = connections.close_silent() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    log::info!("The API stops: no new connections are taken");
    drop(listener);
    state.stop();
    stopping.cancel();
    match tokio::time::timeout(GRACE, connections.all_ended()).await {
        Ok(()) => log::info!("The API has stopped"),
        Err(_) => log::warn!("The API has stopped with requests unfinished after {GRACE:?}"),
    }
    Ok(())
}

/// Takes connections and gives each a task of its own.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Connections>,
    state: &State,
    stopping: &CancellationToken,
) -> Infallible {
    let origins = &state.companion.settings.cors_origins;
    let cors = (*origins != CorsOrigins::None).then(|| edge::cors(origins));
    let routes = warp::service(crate::routes(state.clone()));
    let routes = tower::ServiceBuilder::new().option_layer(cors).layer(edge::compression()).service(routes);
    let mut failing = false;
    loop {
        connections.make_room().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                // Answers are written at once; without it small ones may wait for the client's acknowledgement.
                let _ = stream.set_nodelay(true);
                let connection = (stream, peer);
                tokio::spawn(connection::serve(
                    connection,
                    connections.enter(),
                    routes.clone(),
                    stopping.clone(),
                ));
            }
            // The client has left already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !failing {
                    log::error!(error:% = error; "The API cannot take connections: {error}; it goes on trying");
                }
                failing = true;
                tokio::time::sleep(RETRY_ACCEPT).await;
            }
        }
    }
}

/// The most connections that fit into the process's file descriptors, at most `wanted`.
fn connection_limit(wanted: u32) -> usize {
    let wanted = u64::from(wanted);
    let needed = wanted + RESERVED_DESCRIPTORS;
    let available = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < needed => {
            let raised = needed.min(hard);
            if setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok() { raised } else { soft }
        }
        Ok((soft, _)) => soft,
        Err(_) => needed,
    };
    let limit = available.saturating_sub(RESERVED_DESCRIPTORS).clamp(1, wanted);
    if limit < wanted {
        log::warn!(
            "Only {limit} connections fit into {available} file descriptors; API_MAX_CONNECTIONS asks for {wanted}\nhint: raise the limit of open files (ulimit -n)"
        );
    }
    usize::try_from(limit).unwrap_or(usize::MAX)
}
