//! HTTP/3: which of the answers that wait goes first (RFC 9218). The client's window for the connection is full while it asks for more, and
//! then opens by less than one answer has; it reads them one by one, from the most urgent. What it gives back by reading is all that
//! there is: an answer that went before its turn would keep some of it for good, and the one that is read would not come to its end.

use bytes::Bytes;
use quinn::{Connection, RecvStream, TransportConfig, VarInt};
use serde_json::json;

use crate::corpus::frames::h3_block;
use crate::edge::{Edge, PATIENCE};
use crate::http3::quic_over;
use crate::origin::Origin;

/// The content of each answer.
const CONTENT: usize = 60_000;
/// The client's window for all of them; an eighth of it is given back at once.
const WINDOW: u32 = 16 << 10;
/// By how much it opens.
const STEP: u32 = 4 << 10;
/// Type of the frame that says how urgent a request is by now (section 7.2), as it is written.
const PRIORITY_UPDATE: [u8; 4] = [0x80, 0x0f, 0x07, 0x00];

struct Client {
    quic: Connection,
    control: quinn::SendStream,
    _endpoint: quinn::Endpoint,
    _edge: Edge,
}

impl Client {
    async fn start() -> Self {
        let origin = Origin::start("a");
        let edge = Edge::start(origin.address, |config| {
            config["workers"] = json!(1);
            config["routes"] = json!([{ "path": "=/page", "respond": { "body": "x".repeat(CONTENT) } }]);
        });
        let mut transport = TransportConfig::default();
        transport.receive_window(VarInt::from_u32(WINDOW));
        let (endpoint, quic) = quic_over(&edge, "first.test", None, transport).await.unwrap();
        let mut control = quic.open_uni().await.unwrap();
        // Without any settings.
        control.write_all(&[0, 4, 0]).await.unwrap();
        Self { quic, control, _endpoint: endpoint, _edge: edge }
    }

    /// Asks with this `priority`, and returns when the request was received.
    async fn ask(&self, priority: &str) -> RecvStream {
        let fields = [(":method", "GET"), (":scheme", "https"), (":authority", "first.test"), (":path", "/page")];
        let fields = fields.into_iter().chain((!priority.is_empty()).then_some(("priority", priority)));
        let fields: Vec<_> = fields.map(|(name, value)| (name.into(), value.into())).collect();
        let (mut send, receive) = self.quic.open_bi().await.unwrap();
        send.write_all(&h3_block(&fields)).await.unwrap();
        send.finish().unwrap();
        assert_eq!(send.stopped().await.unwrap(), None);
        receive
    }

    /// Says in a frame how urgent the request of this stream is.
    async fn update(&mut self, stream: u8, priority: &str) {
        let length = u8::try_from(priority.len() + 1).unwrap();
        let frame = [&PRIORITY_UPDATE[..], &[length, stream], priority.as_bytes()].concat();
        self.control.write_chunk(Bytes::from(frame)).await.unwrap();
    }

    /// Opens the window somewhat, and reads these answers to their ends, one by one.
    async fn read(&self, answers: Vec<(&'static str, RecvStream)>) {
        self.quic.set_receive_window(VarInt::from_u32(WINDOW + STEP));
        for (which, mut answer) in answers {
            let whole = tokio::time::timeout(PATIENCE, answer.read_to_end(2 * CONTENT)).await;
            let whole = whole.unwrap_or_else(|_| panic!("others went before the one that {which}")).unwrap();
            assert!(whole.len() > CONTENT && whole.ends_with(b"xxx"), "{which}: {}", whole.len());
        }
    }
}

#[tokio::test]
async fn urgent_answers_go_first() {
    let client = Client::start().await;
    // This one fills the window, and the others wait.
    let first = client.ask("u=7").await;
    let [none, urgent, soon] = [client.ask("").await, client.ask("u=0").await, client.ask("i, u=2").await];
    let late = client.ask("u=5, i").await;
    client
        .read(vec![
            ("has 0", urgent),
            ("has 2", soon),
            ("says nothing and has 3", none),
            ("has 5", late),
            ("has 7 and came first", first),
        ])
        .await;
}

#[tokio::test]
async fn clients_change_their_mind() {
    let mut client = Client::start().await;
    let first = client.ask("u=6").await;
    let (lowered, raised) = (client.ask("u=0").await, client.ask("u=7").await);
    // Of streams 4 and 8, and of 16, whose request comes later and says something else.
    client.update(4, "u=5").await;
    client.update(8, "u=1").await;
    client.update(16, "u=2").await;
    let (between, ahead) = (client.ask("u=4").await, client.ask("u=7").await);
    client
        .read(vec![
            ("was raised to 1", raised),
            ("was said to have 2", ahead),
            ("has 4", between),
            ("was lowered to 5", lowered),
            ("has 6 and came first", first),
        ])
        .await;
}
