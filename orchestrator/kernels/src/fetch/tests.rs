use super::*;
use crate::progress::tests::Notes;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that answers each request with the next of `answers`, and remembers what was asked.
async fn server(answers: Vec<Vec<u8>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/linux.deb", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            seen.lock().unwrap().push(String::from_utf8(request).unwrap().to_lowercase());
            stream.write_all(&answer).await.unwrap();
        }
    });
    (url, asked)
}

fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").into_bytes();
    answer.extend(body);
    answer
}

const BODY: &[u8] = b"a kernel's source";

#[tokio::test]
async fn a_cut_download_is_told_and_resumed() {
    let (url, asked) =
        server(vec![answer("200 OK", 17, &BODY[..5]), answer("206 Partial Content", 12, &BODY[5..])]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("linux.deb");
    let sha256 = digest::of_bytes(BODY);
    let error = fetch(&url, &sha256, &file, &Notes::default()).await.unwrap_err();
    assert!(error.to_string().contains("ended after 5"), "{error}");
    assert!(error.hint().unwrap().contains("again") && !file.exists());
    fetch(&url, &sha256, &file, &Notes::default()).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), BODY);
    assert!(asked.lock().unwrap()[1].contains("range: bytes=5-"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_resume_is_taken_from_the_start() {
    let (url, _) = server(vec![answer("200 OK", 17, BODY)]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("linux.deb");
    fs::write(folder.path().join("linux.deb.part"), b"something else, and longer").unwrap();
    fetch(&url, &digest::of_bytes(BODY), &file, &Notes::default()).await.unwrap();
}

#[tokio::test]
async fn a_wrong_digest_is_told_and_the_file_removed() {
    let (url, _) = server(vec![answer("200 OK", 17, BODY)]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("linux.deb");
    let error = fetch(&url, &digest::of_bytes(b"other"), &file, &Notes::default()).await.unwrap_err();
    assert!(error.is_usage() && error.to_string().contains(&digest::of_bytes(BODY)), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn two_that_want_one_file_bring_it_once() {
    // The second answer is for one that should not have asked.
    let (url, asked) = server(vec![answer("200 OK", 17, BODY), answer("206 Partial Content", 5, b"wrong")]).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, sha256) = (folder.path().join("linux.deb"), digest::of_bytes(BODY));
    let (first, second) = (Notes::default(), Notes::default());
    let (one, other) = tokio::join!(fetch(&url, &sha256, &file, &first), fetch(&url, &sha256, &file, &second));
    one.unwrap();
    other.unwrap();
    assert_eq!((fs::read(&file).unwrap().as_slice(), asked.lock().unwrap().len()), (BODY, 1));
    let notes = [first.taken(), second.taken()].concat();
    assert_eq!(notes, ["another luqual downloads linux.deb; this one waits for it"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_file_that_the_user_named_and_that_is_missing_is_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("linux.deb");
    let error = fetch("file:///nowhere/linux.deb", "", &file, &Notes::default()).await.unwrap_err();
    assert!(error.is_usage() && error.to_string().starts_with("/nowhere/linux.deb: "), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let (url, _) = server(vec![answer("404 Not Found", 0, b"")]).await;
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&url, "", &folder.path().join("x"), &Notes::default()).await.unwrap_err().to_string();
    assert!(error.contains(&url) && error.contains("404"), "{error}");
}

#[test]
fn the_mirror_of_both_formats_of_apt() {
    let old =
        "# x\ndeb http://security.example/debian-security bookworm main\ndeb http://a.example/debian/ bookworm main\n";
    assert_eq!(mirror_in(old).as_deref(), Some("http://a.example/debian"));
    let new = "Types: deb\nURIs: http://b.example/debian\nSuites: trixie\n";
    assert_eq!(mirror_in(new).as_deref(), Some("http://b.example/debian"));
    assert_eq!(mirror_in("deb http://archive.example/ubuntu noble main\n"), None);
    assert_eq!(debian_mirror(Some("/srv/mirror")), "file:///srv/mirror");
}
