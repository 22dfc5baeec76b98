use std::{future::pending, io, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::state::State;

/// How long requests under way may take once the service was told to stop.
const GRACE: Duration = Duration::from_secs(8);

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

/// Serves the API until SIGTERM or SIGINT; requests under way are finished within 8 s.
///
/// # Errors
/// When the address cannot be used.
pub async fn serve(state: State, (host, port): (String, u16)) -> Result<(), ServeError> {
    let listener = match TcpListener::bind((host.as_str(), port)).await {
        Ok(listener) => listener,
        Err(source) => return Err(ServeError::Bind { host, port, source }),
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or(host);
    log::info!(address = address; "The API listens on http://{address}");
    let (told, stopping) = oneshot::channel();
    let routes = crate::routes(state.clone());
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!("The API stops: no new connections are taken");
        state.stop();
        // The receiver is gone only when the server has ended.
        let _ = told.send(());
    };
    let grace = async move {
        if stopping.await.is_err() {
            pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = warp::serve(routes).incoming(listener).graceful(stop).run() => log::info!("The API has stopped"),
        () = grace => log::warn!("The API has stopped with requests unfinished after {GRACE:?}"),
    }
    Ok(())
}
