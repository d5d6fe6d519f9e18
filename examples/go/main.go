// Asks a recommender about somebody who just does something: go run . [HOST:PORT]
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"reflect"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"example.com/recommend/pb"
)

// All calls only read, so one that no server answered may go to the next. Before several replicas with one
// name, "dns:///recommender:50051", healthCheckConfig beside these and an import of
// google.golang.org/grpc/health keep calls from those that drain.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "kinrec.v1.RecommenderService"}],
    "timeout": "2s",
    "retryPolicy": {
      "maxAttempts": 5,
      "initialBackoff": "0.05s",
      "maxBackoff": "0.5s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]
    }
  }]
}`

func main() {
	target := "localhost:50051"
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	connection, err := grpc.NewClient(
		target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(128<<20)),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := ask(ctx, pb.NewRecommenderServiceClient(connection)); err != nil {
		log.Fatal(explain(err))
	}
}

func ask(ctx context.Context, recommender pb.RecommenderServiceClient) error {
	model, err := recommender.GetModel(ctx, &pb.GetModelRequest{})
	if err != nil {
		return err
	}
	fmt.Println("model", model.Name, model.Version)

	// The state says where the person stands. Keep its bytes as they are, and send only what is new.
	before, err := recommender.EncodeSequence(ctx, &pb.EncodeSequenceRequest{Events: views("i7", "i9")})
	if err != nil {
		return err
	}
	after, err := recommender.EncodeSequence(
		ctx, &pb.EncodeSequenceRequest{State: before.State, Events: views("i11")})
	if err != nil {
		return err
	}
	whole, err := recommender.EncodeSequence(
		ctx, &pb.EncodeSequenceRequest{Events: views("i7", "i9", "i11")})
	if err != nil {
		return err
	}
	fmt.Println("one event and the state give what all events give:",
		reflect.DeepEqual(after.Vector, whole.Vector))

	answer, err := recommender.Recommend(ctx, &pb.RecommendRequest{State: after.State, Limit: 3})
	if err != nil {
		return err
	}
	for _, item := range answer.Recommendations {
		fmt.Printf("%s %.4f %s\n", item.ItemId, item.Score, item.Title)
	}

	// After a change of the key or the model a state may be refused: then the history is sent.
	request := &pb.RecommendRequest{State: []byte("not a state")}
	answer, err = recommender.Recommend(ctx, request)
	if strings.HasPrefix(reason(err), "STATE_") {
		fmt.Println(explain(err))
		request = &pb.RecommendRequest{Events: views("i7", "i9", "i11")}
		answer, err = recommender.Recommend(ctx, request)
	}
	if err != nil {
		return err
	}
	fmt.Println(answer.Basis)

	_, err = recommender.Recommend(ctx, &pb.RecommendRequest{UserId: "nobody"})
	fmt.Println(explain(err))
	_, err = recommender.Recommend(ctx, &pb.RecommendRequest{UserId: "u1", Limit: -1})
	fmt.Println(explain(err))
	return nil
}

func views(itemIDs ...string) []*pb.Event {
	events := make([]*pb.Event, len(itemIDs))
	for number, itemID := range itemIDs {
		events[number] = &pb.Event{ItemId: itemID, EventType: "view"}
	}
	return events
}

// reason is why the service refused a call, as a name of ErrorReason; empty if it does not say.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "kinrec" {
			return info.Reason
		}
	}
	return ""
}

// explain says the status, the reason and the fields at fault.
func explain(err error) string {
	text := fmt.Sprint(status.Code(err), " ", reason(err))
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, violation := range bad.FieldViolations {
				text += "; " + violation.Field + ": " + violation.Description
			}
		}
	}
	return text
}
