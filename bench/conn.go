package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// conn is one keep-alive HTTP/1.1 connection: of net/http's client as most programs would use it, or a lean one that writes
// ready-made bytes and reads just enough of the answer. The driver shares the machine with what it measures, and the first
// costs as much as a simple server.
type conn struct {
	address string
	net     net.Conn
	in      *bufio.Reader
	out     []byte

	standard http.RoundTripper // nil: lean

	status   int
	location []byte
	body     []byte
}

func dial(address string, lean bool) (*conn, error) {
	if !lean {
		return &conn{address: address, standard: &http.Transport{MaxIdleConnsPerHost: 1}}, nil
	}
	n, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &conn{address: address, net: n, in: bufio.NewReaderSize(n, 16<<10), out: make([]byte, 0, 4096)}, nil
}

func (c *conn) close() {
	if c.standard != nil {
		c.standard.(*http.Transport).CloseIdleConnections()
		return
	}
	_ = c.net.Close()
}

// get sends a GET; headers are whole lines with their CRLF.
func (c *conn) get(path, headers string) error {
	c.out = append(c.out[:0], "GET "...)
	c.out = append(c.out, path...)
	c.out = append(c.out, " HTTP/1.1\r\nHost: "...)
	c.out = append(c.out, c.address...)
	c.out = append(c.out, "\r\n"...)
	c.out = append(c.out, headers...)
	c.out = append(c.out, "\r\n"...)
	return c.exchange()
}

// post sends a form.
func (c *conn) post(path, headers, form string) error {
	c.out = append(c.out[:0], "POST "...)
	c.out = append(c.out, path...)
	c.out = append(c.out, " HTTP/1.1\r\nHost: "...)
	c.out = append(c.out, c.address...)
	c.out = append(c.out, "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "...)
	c.out = strconv.AppendInt(c.out, int64(len(form)), 10)
	c.out = append(c.out, "\r\n"...)
	c.out = append(c.out, headers...)
	c.out = append(c.out, "\r\n"...)
	c.out = append(c.out, form...)
	return c.exchange()
}

var errClosed = errors.New("the server closed the connection")

// exchange sends what is in out and reads one answer. The slices it leaves are good until the next.
func (c *conn) exchange() error {
	if c.standard != nil {
		return c.roundTrip()
	}
	if err := c.net.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := c.net.Write(c.out); err != nil {
		return err
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return fmt.Errorf("status line %q", line)
	}
	if c.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return err
	}
	length, chunked, closing := 0, false, false
	c.location, c.body = c.location[:0], c.body[:0]
	for {
		if line, err = c.line(); err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		// Names come as net/http writes them.
		switch {
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(line[16:])); err != nil {
				return err
			}
		case bytes.HasPrefix(line, []byte("Transfer-Encoding: chunked")):
			chunked = true
		case bytes.HasPrefix(line, []byte("Location: ")):
			c.location = append(c.location, line[10:]...)
		case bytes.HasPrefix(line, []byte("Connection: close")):
			closing = true
		}
	}
	if chunked {
		err = c.chunks()
	} else {
		err = c.read(length)
	}
	if err == nil && closing {
		return errClosed
	}
	return err
}

// roundTrip is exchange by net/http's client.
func (c *conn) roundTrip() error {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(c.out)))
	if err != nil {
		return err
	}
	req.URL.Scheme, req.URL.Host, req.RequestURI = "http", c.address, ""
	resp, err := c.standard.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	c.status, c.location = resp.StatusCode, append(c.location[:0], resp.Header.Get("Location")...)
	c.body, err = io.ReadAll(resp.Body)
	return err
}

func (c *conn) line() ([]byte, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (c *conn) read(n int) error {
	start := len(c.body)
	for cap(c.body) < start+n {
		c.body = append(c.body[:cap(c.body)], 0)
	}
	c.body = c.body[:start+n]
	_, err := io.ReadFull(c.in, c.body[start:])
	return err
}

func (c *conn) chunks() error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return err
		}
		if err := c.read(int(n)); err != nil {
			return err
		}
		if _, err := c.line(); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// want fails with the answer's body when the status is another.
func (c *conn) want(status int) error {
	if c.status != status {
		return fmt.Errorf("status %d, want %d: %.300s", c.status, status, c.body)
	}
	return nil
}

// field cuts a string member out of the JSON answer. Tokens hold nothing that JSON would escape.
func (c *conn) field(name string) (string, error) {
	for _, start := range []string{`"` + name + `":"`, `"` + name + `": "`} {
		if _, rest, ok := bytes.Cut(c.body, []byte(start)); ok {
			if value, _, ok := bytes.Cut(rest, []byte(`"`)); ok {
				return string(value), nil
			}
		}
	}
	return "", fmt.Errorf("no %s in %.200s", name, c.body)
}
