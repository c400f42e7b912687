// Package expertd is the client of expertd, an inference server for language models: generation, streams, tokens,
// models, health, over the generated contract in expertdv1.
//
// What the server refuses or fails at is an *Error, which carries the reason and the details.
package expertd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/expertd/expertd/clients/go/expertdv1"
)

// Log-probabilities of a long prompt pass gRPC's own limit of 4 MiB.
const maxAnswerBytes = 256 << 20

// Retry says when a call is tried again: on UNAVAILABLE alone, and a stream only before its first message. The pauses
// grow from Initial by Factor up to Maximum, less a random part of up to a half; a pause that the server asks for
// counts. The context's deadline bounds all attempts together.
type Retry struct {
	Attempts         int
	Initial, Maximum time.Duration
	Factor           float64
}

// DefaultRetry is what a Client does when it is not told otherwise.
var DefaultRetry = Retry{Attempts: 5, Initial: 200 * time.Millisecond, Maximum: 5 * time.Second, Factor: 2}

// Pauses between attempts to connect. gRPC's own grow to minutes: calls would fail long after a server is back.
var reconnect = backoff.Config{
	BaseDelay:  100 * time.Millisecond,
	Multiplier: 1.6,
	Jitter:     0.2,
	MaxDelay:   5 * time.Second,
}

// Option of New.
type Option func(*options)

type options struct {
	apiKey string
	tls    *tls.Config
	retry  Retry
	dial   []grpc.DialOption
}

// WithAPIKey sends the key with each call.
func WithAPIKey(key string) Option { return func(o *options) { o.apiKey = key } }

// WithTLS encrypts the connection; nil takes the system's authorities.
func WithTLS(config *tls.Config) Option {
	return func(o *options) {
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		o.tls = config
	}
}

// WithRetry replaces DefaultRetry; Retry{} turns retries off.
func WithRetry(retry Retry) Option { return func(o *options) { o.retry = retry } }

// WithDialOptions adds options of gRPC's.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, dial...) }
}

// Client is a connection to a server, safe for concurrent use. Deadlines and cancellation are those of each call's
// context; the server stops its work with the call.
type Client struct {
	// The services of the contract, for what this client does not cover. Their errors are gRPC's own, and they retry
	// nothing.
	Inference pb.InferenceServiceClient
	Tokenizer pb.TokenizerServiceClient
	ModelInfo pb.ModelServiceClient
	Control   pb.ControlServiceClient

	connection *grpc.ClientConn
	retry      Retry
}

// New makes a client of the server at HOST:PORT or unix:PATH. It connects with the first call.
func New(target string, opts ...Option) (*Client, error) {
	o := options{retry: DefaultRetry}
	for _, opt := range opts {
		opt(&o)
	}
	transport := insecure.NewCredentials()
	if o.tls != nil {
		transport = credentials.NewTLS(o.tls)
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           reconnect,
			MinConnectTimeout: 20 * time.Second,
		}),
		// A server whose machine has vanished ends a call without a deadline, too.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
	}
	if o.apiKey != "" {
		bearer := "Bearer " + o.apiKey
		dial = append(dial,
			grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
				invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				return invoke(metadata.AppendToOutgoingContext(ctx, "authorization", bearer), method, req, reply, cc, opts...)
			}),
			grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn,
				method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				return stream(metadata.AppendToOutgoingContext(ctx, "authorization", bearer), desc, cc, method, opts...)
			}))
	}
	connection, err := grpc.NewClient(target, append(dial, o.dial...)...)
	if err != nil {
		return nil, err
	}
	return &Client{
		Inference:  pb.NewInferenceServiceClient(connection),
		Tokenizer:  pb.NewTokenizerServiceClient(connection),
		ModelInfo:  pb.NewModelServiceClient(connection),
		Control:    pb.NewControlServiceClient(connection),
		connection: connection,
		retry:      o.retry,
	}, nil
}

// Close ends the connection and the calls on it.
func (c *Client) Close() error { return c.connection.Close() }

// attempts of one call.
type attempts struct {
	retry Retry
	left  int
	pause time.Duration
}

func (c *Client) attempts() *attempts {
	return &attempts{retry: c.retry, left: c.retry.Attempts - 1, pause: c.retry.Initial}
}

// again waits for the next attempt after `failure`, and returns nil; or what the call fails with, as there is none.
func (a *attempts) again(ctx context.Context, failure *Error) *Error {
	if failure.Code != codes.Unavailable || a.left <= 0 {
		return failure
	}
	a.left--
	pause := time.Duration(float64(a.pause) * (0.5 + rand.Float64()/2))
	pause = max(pause, failure.RetryDelay)
	a.pause = min(time.Duration(float64(a.pause)*a.retry.Factor), a.retry.Maximum)
	if deadline, ok := ctx.Deadline(); ok && time.Now().Add(pause).After(deadline) {
		return failure
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return errorFrom(status.FromContextError(ctx.Err()).Err(), failure.RequestID)
	case <-timer.C:
		return nil
	}
}

// failure is what a call with the context failed with. A call that neither side cancelled, gRPC did, as it does while a
// server begins to stop: that server is not available.
func (c *Client) failure(ctx context.Context, err error, requestID string) *Error {
	failure := errorFrom(err, requestID)
	isAsked := ctx.Err() != nil || c.connection.GetState() == connectivity.Shutdown
	if failure.Code == codes.Canceled && failure.Reason == "" && !isAsked {
		err = status.Error(codes.Unavailable, "the server cancelled the call without a reason: it may be stopping")
		return errorFrom(err, requestID)
	}
	return failure
}

// call makes a unary call with the client's retries.
func call[Request, Response any](ctx context.Context, c *Client, request Request, requestID string,
	method func(context.Context, Request, ...grpc.CallOption) (Response, error)) (Response, error) {
	for attempts := c.attempts(); ; {
		response, err := method(ctx, request)
		if err == nil {
			return response, nil
		}
		if failure := attempts.again(ctx, c.failure(ctx, err, requestID)); failure != nil {
			var none Response
			return none, failure
		}
	}
}

// Generate returns the whole answer.
func (c *Client) Generate(ctx context.Context, request *pb.GenerateRequest) (*pb.GenerateResponse, error) {
	return call(ctx, c, request, request.GetRequestId(), c.Inference.Generate)
}

// Stream returns the answer as it is written. Close it, or end its context.
func (c *Client) Stream(ctx context.Context, request *pb.GenerateRequest) *Stream {
	ctx, cancel := context.WithCancel(ctx)
	return &Stream{ctx: ctx, cancel: cancel, client: c, request: request}
}

// Stream is one answer on its way. Not safe for concurrent use, but for Close.
type Stream struct {
	ctx       context.Context
	cancel    context.CancelFunc
	client    *Client
	request   *pb.GenerateRequest
	collector collector
}

// Close cancels what is left of the answer.
func (s *Stream) Close() { s.cancel() }

// Response returns the whole answer, as Generate would have given it; nil before the last delta was taken.
func (s *Stream) Response() *pb.GenerateResponse {
	if !s.collector.isWhole {
		return nil
	}
	return &s.collector.response
}

// Deltas returns the pieces of the answer as they come, or one *Error at the end. Leaving the loop cancels the rest.
// Once.
func (s *Stream) Deltas() iter.Seq2[*pb.Delta, error] {
	return func(yield func(*pb.Delta, error) bool) {
		defer s.cancel()
		for attempts := s.client.attempts(); ; {
			hasBegun, err := s.run(yield)
			if err == nil {
				return
			}
			failure := s.client.failure(s.ctx, err, s.request.GetRequestId())
			if !hasBegun {
				failure = attempts.again(s.ctx, failure)
			}
			if failure != nil {
				yield(nil, failure)
				return
			}
		}
	}
}

// run makes one attempt; nil: the answer is whole, or nobody wants more of it.
func (s *Stream) run(yield func(*pb.Delta, error) bool) (hasBegun bool, err error) {
	stream, err := s.client.Inference.StreamGenerate(s.ctx, s.request)
	if err != nil {
		return false, err
	}
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) && !s.collector.isWhole {
			return hasBegun, status.Error(codes.Internal, "the server ended the stream without its summary")
		}
		if errors.Is(err, io.EOF) {
			return hasBegun, nil
		}
		if err != nil {
			return hasBegun, err
		}
		hasBegun = true
		if delta := s.collector.add(event); delta != nil && !yield(delta, nil) {
			return hasBegun, nil
		}
	}
}

// Tokenize returns the ids of a text, special tokens of the model's beginning included.
func (c *Client) Tokenize(ctx context.Context, text string) ([]uint32, error) {
	response, err := call(ctx, c, &pb.TokenizeRequest{Texts: []string{text}}, "", c.Tokenizer.Tokenize)
	if err != nil {
		return nil, err
	}
	if num := len(response.GetResults()); num != 1 {
		return nil, errorFrom(status.Errorf(codes.Internal, "the server answers %d tokenizations of 1 text", num), "")
	}
	return response.GetResults()[0].GetIds(), nil
}

// Detokenize returns the text of ids.
func (c *Client) Detokenize(ctx context.Context, ids []uint32) (string, error) {
	request := &pb.DetokenizeRequest{Sequences: []*pb.TokenInput{{Ids: ids}}}
	response, err := call(ctx, c, request, "", c.Tokenizer.Detokenize)
	if err != nil {
		return "", err
	}
	if num := len(response.GetTexts()); num != 1 {
		return "", errorFrom(status.Errorf(codes.Internal, "the server answers %d texts of 1 sequence", num), "")
	}
	return response.GetTexts()[0], nil
}

// RenderChat returns the prompt that the request's conversation becomes.
func (c *Client) RenderChat(ctx context.Context, request *pb.GenerateRequest) (string, error) {
	render := &pb.RenderChatRequest{Model: request.GetModel(), Chat: request.GetChat()}
	response, err := call(ctx, c, render, "", c.Tokenizer.RenderChat)
	return response.GetText(), err
}

// Model returns the model of that name; "": the one that is served.
func (c *Client) Model(ctx context.Context, name string) (*pb.Model, error) {
	response, err := call(ctx, c, &pb.GetModelRequest{Name: name}, "", c.ModelInfo.GetModel)
	return response.GetModel(), err
}

// Models returns all models.
func (c *Client) Models(ctx context.Context) ([]*pb.Model, error) {
	var models []*pb.Model
	for page := ""; ; {
		response, err := call(ctx, c, &pb.ListModelsRequest{PageToken: page}, "", c.ModelInfo.ListModels)
		if err != nil {
			return nil, err
		}
		models = append(models, response.GetModels()...)
		if page = response.GetNextPageToken(); page == "" {
			return models, nil
		}
	}
}

// ServerInfo returns the version, the machine and the settings of the server.
func (c *Client) ServerInfo(ctx context.Context) (*pb.GetServerInfoResponse, error) {
	return call(ctx, c, &pb.GetServerInfoRequest{}, "", c.Control.GetServerInfo)
}

// Load returns what the server does now: requests that run and wait, blocks of the cache, tokens a second.
func (c *Client) Load(ctx context.Context) (*pb.Load, error) {
	response, err := call(ctx, c, &pb.GetLoadRequest{}, "", c.Control.GetLoad)
	return response.GetLoad(), err
}

// Ready says whether a server answers, and takes requests.
func (c *Client) Ready(ctx context.Context) bool {
	response, err := c.Control.GetLoad(ctx, &pb.GetLoadRequest{})
	return err == nil && response.GetLoad().GetHealthy() && !response.GetLoad().GetDraining()
}
