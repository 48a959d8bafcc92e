// SPDX-License-Identifier: Apache-2.0

// Sends SERVER spans with the OpenTelemetry SDK, or keeps an idle connection alive by pings:
//
//	client send grpc|http|json ENDPOINT KEY none|gzip SPANS
//	client ping ENDPOINT SECONDS
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"
	_ "unsafe" // for go:linkname

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
)

// As users set it who sit behind a balancer that forgets idle connections.
var everyTenSeconds = keepalive.ClientParameters{
	Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true,
}

// grpc-go raises shorter times to this; its own tests lower it, so that pings are many in a second.
//
//go:linkname minPingTime google.golang.org/grpc/internal.KeepaliveMinPingTime
var minPingTime time.Duration

func main() {
	var err error
	switch os.Args[1] {
	case "send":
		count, _ := strconv.Atoi(os.Args[6])
		err = send(os.Args[2], os.Args[3], os.Args[4], os.Args[5], count)
	case "ping":
		seconds, _ := strconv.ParseFloat(os.Args[3], 64)
		err = ping(os.Args[2], time.Duration(seconds*float64(time.Second)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newExporter(
	ctx context.Context, protocol, endpoint, key, compression string,
) (*otlptrace.Exporter, error) {
	headers := map[string]string{"x-auth-key": key}
	if protocol != "grpc" {
		encoding := otlptracehttp.EncodingProtobuf
		if protocol == "json" {
			encoding = otlptracehttp.EncodingJSON
		}
		chosen := otlptracehttp.NoCompression
		if compression == "gzip" {
			chosen = otlptracehttp.GzipCompression
		}
		return otlptracehttp.New(ctx,
			otlptracehttp.WithInsecure(), otlptracehttp.WithEndpoint(endpoint),
			otlptracehttp.WithHeaders(headers), otlptracehttp.WithCompression(chosen),
			otlptracehttp.WithEncoding(encoding))
	}
	options := []otlptracegrpc.Option{
		otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(endpoint),
		otlptracegrpc.WithHeaders(headers),
		otlptracegrpc.WithDialOption(grpc.WithKeepaliveParams(everyTenSeconds)),
	}
	if compression == "gzip" {
		options = append(options, otlptracegrpc.WithCompressor("gzip"))
	}
	return otlptracegrpc.New(ctx, options...)
}

// send reports on standard error whatever the SDK complains of; that is an error.
func send(protocol, endpoint, key, compression string, count int) error {
	ctx := context.Background()
	var complaints atomic.Int64
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		complaints.Add(1)
		fmt.Fprintln(os.Stderr, err)
	}))
	exporter, err := newExporter(ctx, protocol, endpoint, key, compression)
	if err != nil {
		return err
	}
	own := resource.NewSchemaless(attribute.String("service.name", "go"))
	described, err := resource.Merge(resource.Default(), own)
	if err != nil {
		return err
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(described),
	)
	tracer := provider.Tracer("send")
	for number := range count {
		_, span := tracer.Start(ctx, "GET /go/{n}", trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(
				attribute.String("http.request.method", "GET"),
				attribute.String("http.route", "/go/{n}"),
				attribute.String("url.path", fmt.Sprintf("/go/%d", number)),
				attribute.Int("http.response.status_code", 200),
				attribute.String("enduser.id", "go-"+protocol+"-"+compression),
			))
		span.End()
	}
	if err := provider.Shutdown(ctx); err != nil {
		return err
	}
	if n := complaints.Load(); n > 0 {
		return fmt.Errorf("%d complaints of the SDK", n)
	}
	return nil
}

// connections counts those that were begun.
type connections struct{ begun atomic.Int64 }

func (c *connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (c *connections) HandleRPC(context.Context, stats.RPCStats)                       {}
func (c *connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}
func (c *connections) HandleConn(_ context.Context, event stats.ConnStats) {
	if _, begins := event.(*stats.ConnBegin); begins {
		c.begun.Add(1)
	}
}

// ping keeps a connection without a call for a while and fails if the server ends it (GOAWAY).
func ping(endpoint string, during time.Duration) error {
	minPingTime = 50 * time.Millisecond
	parameters := everyTenSeconds
	parameters.Time = minPingTime
	seen := &connections{}
	conn, err := grpc.NewClient(endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(parameters), grpc.WithStatsHandler(seen))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("not connected, still %s", state)
		}
	}
	idle, cancelIdle := context.WithTimeout(ctx, during)
	defer cancelIdle()
	if conn.WaitForStateChange(idle, connectivity.Ready) {
		return fmt.Errorf("the server ended the connection, which is %s now", conn.GetState())
	}
	if n := seen.begun.Load(); n != 1 {
		return fmt.Errorf("%d connections", n)
	}
	return nil
}
