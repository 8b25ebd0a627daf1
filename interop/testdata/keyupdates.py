"""A TLS client that asks for a key update before each byte of a long header, and never reads.

Usage: keyupdates.py HOST PORT. Once the server takes nothing more it prints "stuck", and
keeps the connection until its input ends. OpenSSL by ctypes: Python's ssl has no key updates.
"""
import ctypes
import socket
import struct
import sys

ssl = ctypes.CDLL("libssl.so.3")
for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
    getattr(ssl, name).restype = ctypes.c_void_p
context = ssl.SSL_CTX_new(ctypes.c_void_p(ssl.TLS_client_method()))
session = ctypes.c_void_p(ssl.SSL_new(ctypes.c_void_p(context)))
KEY_UPDATE_REQUESTED = 1

# Version 2, TCP4, and one TLV of 8 KiB.
header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x20\x0f" + bytes(12) + b"\xe0\x20\0" + bytes(8192)

with socket.socket() as s:
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        s.setsockopt(socket.SOL_SOCKET, option, 4096)
    s.connect((sys.argv[1], int(sys.argv[2])))
    ssl.SSL_set_fd(session, s.fileno())
    if ssl.SSL_connect(session) != 1:
        sys.exit("no TLS handshake")
    # A send that waits for a second fails: the server has stopped reading.
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
    for i in range(len(header)):
        if ssl.SSL_key_update(session, KEY_UPDATE_REQUESTED) != 1:
            sys.exit("no key update")
        if ssl.SSL_write(session, header[i : i + 1], 1) != 1:
            print("stuck", flush=True)
            sys.stdin.read()
            sys.exit()
sys.exit("the server read all of it")
