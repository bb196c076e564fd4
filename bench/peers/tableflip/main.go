// The server of app.js in Go, upgraded by tableflip on SIGHUP as in the README of tableflip.
// With TLS_KEY and TLS_CERT it speaks HTTPS, too.
package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

func main() {
	upg, err := tableflip.New(tableflip.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer upg.Stop()
	go func() {
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		for range hangups {
			if err := upg.Upgrade(); err != nil {
				log.Println(err)
			}
		}
	}()
	listener, err := upg.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	server := http.Server{Handler: http.HandlerFunc(serve)}
	if key := os.Getenv("TLS_KEY"); key != "" {
		go server.ServeTLS(listener, os.Getenv("TLS_CERT"), key)
	} else {
		go server.Serve(listener)
	}
	if err := upg.Ready(); err != nil {
		log.Fatal(err)
	}
	<-upg.Exit()
	context, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	server.Shutdown(context)
}

func serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "websocket" {
		echo(w, r)
		return
	}
	w.Header().Set("x-pid", fmt.Sprint(os.Getpid()))
	switch {
	case r.Method == "POST":
		io.Copy(w, r.Body)
	case r.URL.Path == "/stream":
		for n := 0; n < 10; n++ {
			fmt.Fprintf(w, "%d\n", n)
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	case r.URL.Path == "/slow":
		time.Sleep(300 * time.Millisecond)
		fallthrough
	default:
		io.WriteString(w, "ok")
	}
}

// The part of RFC 6455 that the clients of this benchmark use: text of less than 126 bytes.
func echo(w http.ResponseWriter, r *http.Request) {
	accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, stream, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(accept[:]))
	for {
		message, err := readFrame(stream.Reader)
		if err != nil {
			return
		}
		conn.Write(append([]byte{0x81, byte(len(message))}, message...))
	}
}

func readFrame(reader *bufio.Reader) ([]byte, error) {
	var head [6]byte
	if _, err := io.ReadFull(reader, head[:]); err != nil || head[0] != 0x81 {
		return nil, io.EOF
	}
	message := make([]byte, head[1]&0x7f)
	_, err := io.ReadFull(reader, message)
	for i := range message {
		message[i] ^= head[2+i%4]
	}
	return message, err
}
