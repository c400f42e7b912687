package expertd

import pb "github.com/expertd/expertd/clients/go/expertdv1"

// Text makes a request that continues a text. What else it asks for is set on its fields.
func Text(text string) *pb.GenerateRequest {
	return &pb.GenerateRequest{Input: &pb.GenerateRequest_Text{Text: &pb.TextInput{Text: text}}}
}

// Tokens makes a request that continues exactly these tokens.
func Tokens(ids ...uint32) *pb.GenerateRequest {
	return &pb.GenerateRequest{Input: &pb.GenerateRequest_Tokens{Tokens: &pb.TokenInput{Ids: ids}}}
}

// Chat makes a request that answers a conversation: reasoning and calls of tools come apart from the text.
func Chat(messages ...*pb.Message) *pb.GenerateRequest {
	yes := true
	return &pb.GenerateRequest{
		Input:  &pb.GenerateRequest_Chat{Chat: &pb.ChatInput{Messages: messages}},
		Output: &pb.OutputOptions{SeparateReasoning: &yes, ParseToolCalls: &yes},
	}
}

// System, User and Assistant make turns of a conversation.
func System(text string) *pb.Message    { return turn(pb.Role_ROLE_SYSTEM, text) }
func User(text string) *pb.Message      { return turn(pb.Role_ROLE_USER, text) }
func Assistant(text string) *pb.Message { return turn(pb.Role_ROLE_ASSISTANT, text) }

// ToolAnswer makes the turn that answers a call of a tool.
func ToolAnswer(callID, text string) *pb.Message {
	message := turn(pb.Role_ROLE_TOOL, text)
	message.ToolCallId = callID
	return message
}

func turn(role pb.Role, text string) *pb.Message {
	part := &pb.ContentPart{Part: &pb.ContentPart_Text{Text: text}}
	return &pb.Message{Role: role, Parts: []*pb.ContentPart{part}}
}

// Ptr makes the pointers that optional fields take.
func Ptr[T any](value T) *T { return &value }
