package shortlist

import pb "github.com/shortlist-dev/shortlist/clients/go/shortlist/v1"

// ForUser returns the query for a user whom the bundle may know. Others are described in a pb.UserQuery, by features and a
// history.
func ForUser(id string) *pb.Query {
	return &pb.Query{Kind: &pb.Query_User{User: &pb.UserQuery{Id: id}}}
}

// ForItems returns the query for items like those of these ids.
func ForItems(ids ...string) *pb.Query {
	return &pb.Query{Kind: &pb.Query_Items{Items: &pb.ItemsQuery{ItemIds: ids}}}
}

// ForEmbedding returns the query for items near a vector of the bundle's space.
func ForEmbedding(values ...float32) *pb.Query {
	return &pb.Query{Kind: &pb.Query_Embedding{Embedding: &pb.Embedding{Values: values}}}
}

// ForText returns the query for items whose texts mean what these words do.
func ForText(text string) *pb.Query {
	return &pb.Query{Text: text}
}

// String returns a text as the value of a feature or an attribute.
func String(value string) *pb.Value {
	return &pb.Value{Kind: &pb.Value_StringValue{StringValue: value}}
}

// Int returns an integer as the value of a feature or an attribute.
func Int(value int64) *pb.Value {
	return &pb.Value{Kind: &pb.Value_Int64Value{Int64Value: value}}
}

// Float returns a number as the value of a feature or an attribute.
func Float(value float64) *pb.Value {
	return &pb.Value{Kind: &pb.Value_DoubleValue{DoubleValue: value}}
}

// Bool returns a truth value as the value of a feature or an attribute.
func Bool(value bool) *pb.Value {
	return &pb.Value{Kind: &pb.Value_BoolValue{BoolValue: value}}
}

// Strings returns several texts as the value of a feature or an attribute.
func Strings(values ...string) *pb.Value {
	return &pb.Value{Kind: &pb.Value_StringList{StringList: &pb.StringList{Values: values}}}
}

// Ints returns several integers as the value of a feature or an attribute.
func Ints(values ...int64) *pb.Value {
	return &pb.Value{Kind: &pb.Value_Int64List{Int64List: &pb.Int64List{Values: values}}}
}

// Floats returns several numbers as the value of a feature or an attribute.
func Floats(values ...float64) *pb.Value {
	return &pb.Value{Kind: &pb.Value_DoubleList{DoubleList: &pb.DoubleList{Values: values}}}
}

// Bools returns several truth values as the value of a feature or an attribute.
func Bools(values ...bool) *pb.Value {
	return &pb.Value{Kind: &pb.Value_BoolList{BoolList: &pb.BoolList{Values: values}}}
}
