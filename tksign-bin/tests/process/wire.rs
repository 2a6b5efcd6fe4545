//! A client of the protocol with every byte in the test's hand, over a real socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use snow::{Builder, StatelessTransportState};
use testkit::signer::Running;
use tkcore::protocol::*;

/// Until a test gives up; no measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a server answered: HTTP status and body.
pub type Answer = (u16, Vec<u8>);

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection that is kept open.
pub struct Connection(Box<dyn Stream>);

impl Connection {
    /// To `ADDRESS:PORT` or `unix:PATH`.
    pub fn to(address: &str) -> Self {
        Self::try_to(address).unwrap()
    }

    pub fn try_to(address: &str) -> io::Result<Self> {
        match address.strip_prefix("unix:") {
            Some(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Self(Box::new(stream)))
            }
            None => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Self(Box::new(stream)))
            }
        }
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        // One write: two would wait for each other's acknowledgement.
        self.0.write_all(&[head.as_bytes(), body].concat())?;
        self.answer()
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// One answer with its body.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let (mut read, mut buffer) = (Vec::new(), [0; 8192]);
        let end = loop {
            if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            match self.0.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read.extend_from_slice(&buffer[..more]),
            }
        };
        let head = String::from_utf8(read[..end].to_vec()).unwrap().to_lowercase();
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = read.split_off(end);
        let had = body.len();
        body.resize(length.map_or(0, |text| text.parse().unwrap()), 0);
        self.0.read_exact(&mut body[had..])?;
        Ok((status, body))
    }
}

/// A client's key pair.
pub struct Key {
    private: Vec<u8>,
    pub public: ClientKey,
}

impl Key {
    pub fn generate() -> Self {
        let pair = Builder::new(NOISE.parse().unwrap()).generate_keypair().unwrap();
        let public = ClientKey::from_bytes(pair.public.try_into().unwrap());
        Self { private: pair.private, public }
    }

    pub fn private(&self) -> &[u8] {
        &self.private
    }

    /// A new key that is a client of this signer with one role.
    pub fn allowed(signer: &Running, role: &[&str]) -> Self {
        let key = Self::generate();
        let public = key.public.to_string();
        signer.must("clients add", &[&["--key", &public, "--name", role[0], "--role"], role].concat());
        key
    }
}

/// An open session on one connection.
pub struct Line {
    connection: Connection,
    transport: StatelessTransportState,
    session: SessionId,
    next: u64,
    id: u128,
}

/// The public key that clients of this signer pin.
pub fn pinned(signer: &Running) -> [u8; 32] {
    let text = std::fs::read_to_string(signer.trust()).unwrap();
    let trust: serde_json::Value = serde_json::from_str(&text).unwrap();
    let hex = trust["signers"][0]["key"].as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    core::array::from_fn(byte)
}

/// The public half of a private key, if these 32 bytes are one.
pub fn public_of(private: &[u8]) -> [u8; 32] {
    use snow::resolvers::{CryptoResolver as _, DefaultResolver};
    let mut pair = DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519).unwrap();
    pair.set(private);
    pair.pubkey().try_into().unwrap()
}

impl Line {
    /// A session on the signer's TCP listener.
    pub fn open(signer: &Running, key: &Key) -> Result<Self, Answer> {
        Self::at(signer.rpc(), &pinned(signer), key)
    }

    /// A session on any listener; the refusal is what came instead.
    pub fn at(address: &str, pinned: &[u8; 32], key: &Key) -> Result<Self, Answer> {
        Self::try_at(address, pinned, key).unwrap()
    }

    /// The same where the connection may break.
    pub fn try_at(address: &str, pinned: &[u8; 32], key: &Key) -> io::Result<Result<Self, Answer>> {
        let mut connection = Connection::try_to(address)?;
        let prologue = prologue(VERSION);
        let mut state = Builder::new(NOISE.parse().unwrap())
            .local_private_key(&key.private)
            .and_then(|builder| builder.remote_public_key(pinned))
            .and_then(|builder| builder.prologue(&prologue))
            .and_then(Builder::build_initiator)
            .unwrap();
        let mut handshake = [0; HANDSHAKE_REQUEST_BYTES];
        state.write_message(&[], &mut handshake).unwrap();
        let body = SessionRequest { version: VERSION, handshake }.encode();
        let (status, body) = connection.post(SESSION_PATH, &body)?;
        let Ok(Frame::<SessionAnswer>::Accepted(answer)) = Frame::<SessionAnswer>::decode(&body) else {
            return Ok(Err((status, body)));
        };
        state.read_message(&answer.handshake, &mut [0; 64]).unwrap();
        let transport = state.into_stateless_transport_mode().unwrap();
        // Request ids of each line are its own, also of two lines of one client.
        let mut random = [0; 16];
        random.copy_from_slice(&Key::generate().private()[..16]);
        let id = u128::from_be_bytes(random);
        let session = answer.session;
        Ok(Ok(Self { connection, transport, session, next: 0, id }))
    }

    /// The body of a call under the next number.
    pub fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let number = self.next;
        self.next += 1;
        let mut message = vec![0; payload.len() + TAG_BYTES];
        self.transport.write_message(number, payload, &mut message).unwrap();
        RpcRequest { version: VERSION, session: self.session, number, message: &message }.encode()
    }

    /// Asks; the answer's payload, or what was answered instead of one.
    pub fn ask(&mut self, payload: &[u8]) -> Result<Vec<u8>, Answer> {
        self.try_ask(payload).unwrap()
    }

    /// The same on a connection that may break.
    pub fn try_ask(&mut self, payload: &[u8]) -> io::Result<Result<Vec<u8>, Answer>> {
        let body = self.seal(payload);
        let answer = self.connection.post(RPC_PATH, &body)?;
        Ok(self.read(answer))
    }

    /// Begins to ask, and returns when the server waits for the body, which is given back.
    pub fn begin(&mut self, payload: &[u8]) -> Vec<u8> {
        let body = self.seal(payload);
        let head = format!("POST {RPC_PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
        self.connection.send(format!("{head}expect: 100-continue\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(self.connection.answer().unwrap(), (100, vec![]));
        body
    }

    /// Sends the body; the answer's payload, or what was answered instead of one.
    pub fn end(&mut self, body: &[u8]) -> io::Result<Result<Vec<u8>, Answer>> {
        self.connection.send(body)?;
        let answer = self.connection.answer()?;
        Ok(self.read(answer))
    }

    /// The payload of the answer to the last request.
    fn read(&self, (status, body): Answer) -> Result<Vec<u8>, Answer> {
        let number = self.next - 1;
        let Ok(Frame::<RpcAnswer<'_>>::Accepted(answer)) = Frame::<RpcAnswer<'_>>::decode(&body) else {
            return Err((status, body));
        };
        assert_eq!((status, answer.number), (200, number));
        let mut payload = vec![0; answer.message.len()];
        let length = self.transport.read_message(number, answer.message, &mut payload).unwrap();
        payload.truncate(length);
        Ok(payload)
    }

    /// A request id of its own.
    pub fn id(&mut self) -> RequestId {
        self.id = self.id.wrapping_add(1);
        RequestId::from_bytes(self.id.to_be_bytes())
    }

    pub fn call<C: Call>(&mut self, params: &C) -> Result<C::Answer, RpcError> {
        self.try_call(params).unwrap()
    }

    /// The same on a connection that may break.
    pub fn try_call<C: Call>(&mut self, params: &C) -> io::Result<Result<C::Answer, RpcError>> {
        let request = params.request(self.id(), None).unwrap();
        let answer = self.try_ask(&request)?;
        Ok(C::read_answer(&answer.unwrap()).unwrap())
    }
}
