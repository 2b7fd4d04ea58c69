//! Streams that are opened before anything breaks and should outlive it.

use std::sync::Arc;

use reqwest::Response;
use tokio::task::JoinHandle;

use super::Stage;

/// On each instance.
const STREAMS: usize = 10;

/// Opens streams on every instance, with tokens of another, and reads them until they end.
pub(super) async fn open(stage: &Arc<Stage>) -> Vec<JoinHandle<()>> {
    let count = stage.operators.len();
    let mut readers = Vec::new();
    for number in 0..STREAMS * count {
        let (instance, other) = (number % count, (number + 1) % count);
        let issued = stage.operators[other].issue().await.expect("a token before anything is broken");
        let opened = stage.operators[instance].open_stream(&issued.token).await;
        let stream = opened.expect("an answer before anything is broken").expect("a token that is valid");
        readers.push(tokio::spawn(read(Arc::clone(stage), instance, stream)));
    }
    readers
}

async fn read(stage: Arc<Stage>, instance: usize, mut stream: Response) {
    while let Ok(Some(_)) = stream.chunk().await {}
    stage.journal.stream_ended(instance);
}
