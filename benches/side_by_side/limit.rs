//! The machine's own limit: a process that only receives and writes to a file, and one that only sends from a file,
//! with the frames of the broker's scenarios and no broker.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use socket2::SockRef;

use super::process::Process;

/// What the process without a broker does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// Writes the request to the file and answers with eight bytes.
    Receive,
    /// Takes an offset and a length from the request and answers with that stretch of the file.
    Send,
}

/// Starts this program once more as such a process; returns it with its port.
pub fn start(limit: Limit, file: &Path) -> Result<(Process, u16)> {
    let mut command = Command::new(std::env::current_exe()?);
    let word = match limit {
        Limit::Receive => "limit-receive",
        Limit::Send => "limit-send",
    };
    command.arg(word).arg(file).stdout(Stdio::piped());
    let mut process = Process::start(word, &mut command)?;
    let stdout = process.child().stdout.take().context("its output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok((process, line.trim().parse().context("its port")?))
}

/// The process itself. Ends when it is killed.
pub fn serve(limit: Limit, path: &Path) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // As the brokers set theirs.
    SockRef::from(&listener).set_recv_buffer_size(102_400)?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    for (number, stream) in listener.incoming().enumerate() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_send_buffer_size(102_400)?;
        match limit {
            Limit::Receive => {
                let file = File::create(path.with_extension(number.to_string()))?;
                thread::spawn(move || receive(stream, &file));
            }
            Limit::Send => {
                let file = File::open(path)?;
                thread::spawn(move || send(stream, &file));
            }
        }
    }
    Ok(())
}

fn receive(mut stream: TcpStream, file: &File) -> Result<()> {
    let mut buffer = vec![0; 4 << 20];
    let mut position = 0;
    loop {
        stream.read_exact(&mut buffer[..4])?;
        let len = u32::from_be_bytes(*buffer.first_chunk().context("a length")?) as usize;
        let mut received = 0;
        while received < len {
            match stream.read(&mut buffer[received..len])? {
                0 => bail!("closed"),
                n => received += n,
            }
        }
        file.write_all_at(&buffer[..len], position)?;
        position += len as u64;
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 7])?;
    }
}

fn send(mut stream: TcpStream, file: &File) -> Result<()> {
    let mut request = [0; 12];
    loop {
        stream.read_exact(&mut request)?;
        let mut position = i64::from_be_bytes(*request.first_chunk().context("an offset")?);
        let len = u32::from_be_bytes(*request.last_chunk().context("a length")?);
        SockRef::from(&stream).send_with_flags(&len.to_be_bytes(), libc::MSG_MORE)?;
        let mut left = len as usize;
        while left > 0 {
            match nix::sys::sendfile::sendfile64(&stream, file, Some(&mut position), left)? {
                0 => bail!("the file is too short"),
                n => left -= n,
            }
        }
    }
}
