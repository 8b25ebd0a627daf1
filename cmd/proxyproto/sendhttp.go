package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// transport makes each request on a connection of its own, which begins with the header.
func (s *sender) transport() *http.Transport {
	return &http.Transport{
		DialContext:           s.open,
		DisableKeepAlives:     true,
		DisableCompression:    true,
		TLSHandshakeTimeout:   s.timeout,
		ResponseHeaderTimeout: s.wait,
		TLSClientConfig:       s.tlsConfig(""),
	}
}

// sendHTTP gets a URL and prints the response.
func (s *sender) sendHTTP(ctx context.Context, stdout io.Writer) error {
	target, err := url.Parse(s.address)
	if err != nil || target.Host == "" {
		return fmt.Errorf("%q isn't a URL", s.address)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "proxyproto")
	resp, err := s.transport().RoundTrip(req)
	if err != nil {
		return s.httpError(err)
	}
	defer resp.Body.Close()
	fmt.Fprintf(stdout, "%s %s\r\n", resp.Proto, resp.Status)
	if err := resp.Header.Write(stdout); err != nil {
		return err
	}
	io.WriteString(stdout, "\r\n")
	if _, err := io.Copy(stdout, resp.Body); err != nil {
		return networkError(fmt.Errorf("the response is cut off: %w", err))
	}
	return nil
}

// httpError says why there is no response.
func (s *sender) httpError(err error) error {
	var failed *failure
	var timeout net.Error
	switch {
	case errors.As(err, &failed):
		return failed
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return s.ended(io.EOF, 0)
	case errors.Is(err, syscall.ECONNRESET):
		return s.ended(syscall.ECONNRESET, 0)
	case errors.As(err, &timeout) && timeout.Timeout():
		return s.ended(os.ErrDeadlineExceeded, 0)
	}
	return networkError(err)
}

// serveProxy is an HTTP proxy that sends the header to the servers, until it is interrupted.
func (s *sender) serveProxy(ctx context.Context, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	ln, err := net.Listen("tcp", s.proxy)
	if err != nil {
		return networkError(err)
	}
	fmt.Fprintf(stderr, "an HTTP proxy listens on %v\n", ln.Addr())
	plain := &httputil.ReverseProxy{
		Rewrite:      func(*httputil.ProxyRequest) {}, // the request has the server's URL already
		Transport:    s.transport(),
		ErrorHandler: s.proxyError,
	}
	srv := &http.Server{
		ReadHeaderTimeout: 30 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodConnect:
				s.tunnel(w, r)
			case r.URL.IsAbs():
				plain.ServeHTTP(w, r)
			default:
				http.Error(w, "This is an HTTP proxy: use it with curl -x.", http.StatusBadRequest)
			}
		}),
	}
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return networkError(err)
	}
	return nil
}

func (s *sender) proxyError(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, s.httpError(err).Error(), http.StatusBadGateway)
}

// tunnel connects a client with the server that its CONNECT names.
func (s *sender) tunnel(w http.ResponseWriter, r *http.Request) {
	server, err := s.open(r.Context(), "tcp", r.Host)
	if err != nil {
		s.proxyError(w, r, err)
		return
	}
	defer server.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		io.Copy(client, server)
		client.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(server, buffered)
	server.(interface{ CloseWrite() error }).CloseWrite()
	<-answered
}
