package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// A contender is a way to serve QUIC.
type contender struct {
	name, kind     string // the kind of the server's socket
	relay, headers bool
}

var contenders = []contender{
	{"bare socket, no relay", "bare", false, false},
	{"relay without headers", "bare", true, false},
	{"relay with headers, QUICConn", "QUICConn", true, true},
	{"relay with headers, PacketConn", "PacketConn", true, true},
}

const baseline = 1 // relay without headers

// A job is what clients ask for.
type job struct {
	name              string
	conns, requests   int
	upload, downloads int // bytes of each request
}

func jobs(megabytes int) []job {
	n := megabytes * 1_000_000
	return []job{
		{fmt.Sprintf("download of %d MB", megabytes), 1, 1, 0, n},
		{fmt.Sprintf("upload of %d MB", megabytes), 1, 1, n, 0},
		{"64 connections, replies of 500 B", 64, max(1, megabytes/5), 100, 500},
		{"64 connections, replies of 20 kB", 64, max(1, megabytes/10), 100, 20_000},
		{"64 connections, replies of 100 kB", 64, max(1, megabytes/25), 100, 100_000},
	}
}

// figures are what a job took, round by round.
type figures struct{ seconds, cpu []float64 }

func compareQUIC(rounds, megabytes int, only string) error {
	var running []*site
	for _, c := range contenders {
		s, err := startSite(c)
		if err != nil {
			return err
		}
		defer s.stop()
		running = append(running, s)
	}
	fmt.Println("| work | server | throughput by that of a relay without headers (quartiles) " +
		"| server's CPU by that (quartiles) | megabytes or requests a second |")
	fmt.Println("|---|---|---:|---:|---:|")
	all := slices.DeleteFunc(jobs(megabytes),
		func(j job) bool { return !strings.Contains(j.name, only) })
	for k, j := range all {
		took := make([]figures, len(running))
		for round := range rounds + 1 {
			for i := range running {
				i = (i + round) % len(running)
				seconds, cpu, err := running[i].do(j)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", contenders[i].name, j.name, err)
				}
				if round > 0 { // the first warms up
					took[i].seconds = append(took[i].seconds, seconds)
					took[i].cpu = append(took[i].cpu, cpu)
				}
			}
			progress(j.name, k*(rounds+1)+round+1, len(all)*(rounds+1))
		}
		for i, c := range contenders {
			fmt.Println(row(j, c, took[i], took[baseline]))
		}
	}
	return nil
}

func row(j job, c contender, f, base figures) string {
	per := float64(j.conns * j.requests)
	if j.requests == 1 {
		per = float64(j.upload+j.downloads) / 1e6
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %.0f |", j.name, c.name,
		ratios(base.seconds, f.seconds), ratios(f.cpu, base.cpu), per/quantile(f.seconds, 0.5))
}

// A site is a server that runs, with its relay.
type site struct {
	conns    []*quic.Conn
	programs []*exec.Cmd
}

func startSite(c contender) (*site, error) {
	s := new(site)
	addr, err := s.start("-serve", c.kind)
	if err == nil && c.relay {
		addr, err = s.start("-relay", addr, fmt.Sprintf("-headers=%v", c.headers))
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 64 {
		conn, err := quic.DialAddr(ctx, addr, &tls.Config{
			InsecureSkipVerify: true, NextProtos: []string{protocol},
		}, quicConfig)
		if err != nil {
			s.stop()
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		s.conns = append(s.conns, conn)
	}
	return s, nil
}

// start starts this program in another role and returns the address that it prints.
func (s *site) start(args ...string) (addr string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	c := exec.Command(self, args...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := c.Start(); err != nil {
		return "", err
	}
	s.programs = append(s.programs, c)
	addr, err = bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(addr), err
}

func (s *site) stop() {
	for _, conn := range s.conns {
		conn.CloseWithError(0, "")
	}
	for _, c := range s.programs {
		c.Process.Kill()
		c.Wait()
	}
}

// do does a job, and returns how long it took and the server's CPU time, both in seconds.
func (s *site) do(j job) (seconds, cpu float64, err error) {
	before, err := s.serverCPU()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	errs := make([]error, j.conns)
	var wg sync.WaitGroup
	for i := range j.conns {
		wg.Go(func() {
			for range j.requests {
				if errs[i] == nil {
					errs[i] = request(s.conns[i], j.upload, j.downloads, io.Discard)
				}
			}
		})
	}
	wg.Wait()
	seconds = time.Since(start).Seconds()
	for _, err := range errs {
		if err != nil {
			return 0, 0, err
		}
	}
	after, err := s.serverCPU()
	return seconds, float64(after-before) / 1e9, err
}

// askCPU, in place of a length, asks for the server's CPU time.
const askCPU = 1<<63 - 1

func (s *site) serverCPU() (ns uint64, err error) {
	var answer [8]byte
	w := &sliceWriter{b: answer[:0]}
	if err := request(s.conns[0], 0, askCPU, w); err != nil {
		return 0, err
	}
	if len(w.b) != len(answer) {
		return 0, fmt.Errorf("the server's CPU time has %d bytes", len(w.b))
	}
	return binary.BigEndian.Uint64(w.b), nil
}

type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(b []byte) (int, error) { w.b = append(w.b, b...); return len(b), nil }

// request sends and gets that many bytes on a stream of its own.
func request(conn *quic.Conn, upload, download int, to io.Writer) error {
	stream, err := conn.OpenStreamSync(context.Background())
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint64(nil, uint64(download))
	if _, err := stream.Write(head); err != nil {
		return err
	}
	if err := send(stream, upload); err != nil {
		return err
	}
	stream.Close()
	n, err := io.Copy(to, stream)
	if err == nil && download != askCPU && n != int64(download) {
		err = fmt.Errorf("%d bytes came instead of %d", n, download)
	}
	return err
}

var zeros [64 << 10]byte

func send(w io.Writer, n int) error {
	for n > 0 {
		k, err := w.Write(zeros[:min(n, len(zeros))])
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}

var loopback = &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
