//! The server: one client at a time over a Unix socket, until the power is cut.

use crate::disk::{Disk, Losses};
use crate::wire::{self, Request, answer, command, option};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

/// When the power is cut. Writes and flushes are counted from 1, from the start of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// With this write, which is among the unflushed ones.
    AtWrite(u64),
    /// With this flush, which does not happen.
    AtFlush(u64),
}

/// How a server runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// When the power is cut, if ever.
    pub cut: Option<Cut>,
    /// Decides what the cut leaves.
    pub seed: u64,
    /// The server ends when so many clients have gone; without end if it is `None`.
    pub clients: Option<u64>,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The power was cut.
    Cut(Losses),
    /// The clients have gone; what was not flushed is lost.
    ClientsGone,
}

/// Why a client is not served any more.
enum Stop {
    Cut(Losses),
    Gone,
}

/// What happened since the start.
#[derive(Default)]
struct Counts {
    writes: u64,
    flushes: u64,
}

/// Serves a disk until the power is cut, or until the plan's clients have gone. A client that breaks the protocol
/// is dropped, with a line on standard error, and the next is served. An error is one of the image or the socket.
pub fn serve(listener: &UnixListener, disk: &mut Disk, plan: &Plan) -> io::Result<Ended> {
    let mut counts = Counts::default();
    let mut clients = 0;
    while plan.clients.is_none_or(|most| clients < most) {
        let (stream, _) = listener.accept()?;
        match Session::new(stream)?.run(disk, plan, &mut counts) {
            Ok(Stop::Cut(losses)) => return Ok(Ended::Cut(losses)),
            Ok(Stop::Gone) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => eprintln!("nx disk: client dropped: {error}"),
        }
        clients += 1;
    }
    Ok(Ended::ClientsGone)
}

/// One client.
struct Session {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

impl Session {
    fn new(stream: UnixStream) -> io::Result<Session> {
        Ok(Session { output: stream.try_clone()?, input: BufReader::new(stream) })
    }

    fn run(&mut self, disk: &mut Disk, plan: &Plan, counts: &mut Counts) -> io::Result<Stop> {
        if !self.handshake(disk)? {
            return Ok(Stop::Gone);
        }
        loop {
            let request = Request::read(&mut self.input)?;
            match request.command {
                command::READ => self.read(disk, &request)?,
                command::WRITE => {
                    let data = self.data(request.length)?;
                    let written = disk.write(request.offset, &data);
                    counts.writes += u64::from(written.is_ok());
                    if written.is_ok() && plan.cut == Some(Cut::AtWrite(counts.writes)) {
                        return disk.cut(plan.seed).map(Stop::Cut);
                    }
                    self.reply(&request, &written)?;
                }
                command::FLUSH => {
                    counts.flushes += 1;
                    if plan.cut == Some(Cut::AtFlush(counts.flushes)) {
                        return disk.cut(plan.seed).map(Stop::Cut);
                    }
                    let flushed = disk.flush();
                    self.reply(&request, &flushed)?;
                }
                command::DISCONNECT => return Ok(Stop::Gone),
                _ => self.reply(&request, &Err(io::ErrorKind::InvalidInput.into()))?,
            }
        }
    }

    fn read(&mut self, disk: &Disk, request: &Request) -> io::Result<()> {
        let mut data = vec![0; request.length.min(wire::REQUEST_BYTES_MAX) as usize];
        let read = if request.length > wire::REQUEST_BYTES_MAX {
            Err(io::ErrorKind::InvalidInput.into())
        } else {
            disk.read(request.offset, &mut data)
        };
        self.reply(request, &read)?;
        if read.is_ok() { self.output.write_all(&data) } else { Ok(()) }
    }

    /// The data of a write. One that is too long cannot be skipped in bounded time: the client is dropped.
    fn data(&mut self, length: u32) -> io::Result<Vec<u8>> {
        if length > wire::REQUEST_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a write of {length} bytes")));
        }
        let mut data = vec![0; length as usize];
        self.input.read_exact(&mut data)?;
        Ok(data)
    }

    fn reply(&mut self, request: &Request, outcome: &io::Result<()>) -> io::Result<()> {
        let error = match outcome {
            Ok(()) => 0,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => wire::error::INVALID,
            Err(_) => wire::error::IO,
        };
        let mut bytes = Vec::with_capacity(16);
        bytes.extend(wire::REPLY_MAGIC.to_be_bytes());
        bytes.extend(error.to_be_bytes());
        bytes.extend(request.cookie.to_be_bytes());
        self.output.write_all(&bytes)
    }

    /// Agrees on the one export there is; false when the client goes without it.
    fn handshake(&mut self, disk: &Disk) -> io::Result<bool> {
        self.output.write_all(&wire::SERVER_MAGIC.to_be_bytes())?;
        self.output.write_all(&wire::OPTION_MAGIC.to_be_bytes())?;
        self.output.write_all(&wire::HANDSHAKE_FLAGS.to_be_bytes())?;
        let flags = u32::from_be_bytes(wire::bytes(&mut self.input)?);
        let sends_zeros = flags & 0b10 == 0;
        loop {
            let magic = u64::from_be_bytes(wire::bytes(&mut self.input)?);
            wire::expect(magic, wire::OPTION_MAGIC, "an option")?;
            let option = u32::from_be_bytes(wire::bytes(&mut self.input)?);
            let data = self.option_data()?;
            match option {
                option::EXPORT_NAME if data.is_empty() => {
                    self.output.write_all(&disk.length().to_be_bytes())?;
                    self.output.write_all(&wire::EXPORT_FLAGS.to_be_bytes())?;
                    self.output.write_all(&[0; 124][..if sends_zeros { 124 } else { 0 }])?;
                    return Ok(true);
                }
                // This option has no way to refuse but to go.
                option::EXPORT_NAME => return Ok(false),
                option::INFO | option::GO => {
                    if self.tell(option, &data, disk)? && option == option::GO {
                        return Ok(true);
                    }
                }
                option::LIST => {
                    self.answer(option, answer::SERVER, &0u32.to_be_bytes())?;
                    self.answer(option, answer::ACK, &[])?;
                }
                option::ABORT => {
                    self.answer(option, answer::ACK, &[])?;
                    return Ok(false);
                }
                _ => self.answer(option, answer::UNSUPPORTED, &[])?,
            }
        }
    }

    fn option_data(&mut self) -> io::Result<Vec<u8>> {
        let length = u32::from_be_bytes(wire::bytes(&mut self.input)?);
        if length > wire::OPTION_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an option of {length} bytes")));
        }
        let mut data = vec![0; length as usize];
        self.input.read_exact(&mut data)?;
        Ok(data)
    }

    /// Tells of the export that INFO or GO name; true if it is the one there is, whose name is empty.
    fn tell(&mut self, option: u32, data: &[u8], disk: &Disk) -> io::Result<bool> {
        match data.first_chunk::<4>().map(|length| u32::from_be_bytes(*length)) {
            Some(0) => {}
            Some(length) if length as usize <= data.len() - 4 => {
                self.answer(option, answer::UNKNOWN, b"there is one export, and its name is empty")?;
                return Ok(false);
            }
            _ => {
                self.answer(option, answer::INVALID, &[])?;
                return Ok(false);
            }
        }
        let mut export = 0u16.to_be_bytes().to_vec();
        export.extend(disk.length().to_be_bytes());
        export.extend(wire::EXPORT_FLAGS.to_be_bytes());
        self.answer(option, answer::INFO, &export)?;
        let mut sizes = 3u16.to_be_bytes().to_vec();
        for size in [crate::disk::SECTOR as u32, disk.unit(), wire::REQUEST_BYTES_MAX] {
            sizes.extend(size.to_be_bytes());
        }
        self.answer(option, answer::INFO, &sizes)?;
        self.answer(option, answer::ACK, &[])?;
        Ok(true)
    }

    fn answer(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        let mut bytes = wire::ANSWER_MAGIC.to_be_bytes().to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
        self.output.write_all(&bytes)
    }
}
