//! Sessions with built-in accounts: log in as `ada` with the password printed.

use axum::{Router, routing::get};
use doorward_axum::{Doorward, Session, core::password::Password};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let doorward = Doorward::sqlite("app.db").open().await?;
    let password = "correct horse battery";
    let _ = doorward
        .accounts()
        .register("ada", Password::new(password)?)
        .await;
    let hello = |session: Session| async move { format!("hello {}\n", session.user()) };
    let app = Router::new()
        .route("/api/v1/hello", get(hello))
        .merge(doorward.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!(
        "http://{}/api/v1/docs   user ada, password {password}",
        listener.local_addr()?
    );
    Ok(axum::serve(listener, app.with_state(doorward)).await?)
}
