package dev.shortlist.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;

/** How answers are compared; see tests/data/requests/README.md. */
final class Comparison {
  private final Set<String> missing = new HashSet<>();
  private final double tolerance;
  private final JsonObject unordered;

  Comparison(String rules) {
    JsonObject read = JsonParser.parseString(rules).getAsJsonObject();
    read.getAsJsonArray("volatile").forEach(name -> missing.add(name.getAsString()));
    tolerance = read.get("tolerance").getAsDouble();
    unordered = read.getAsJsonObject("unordered");
  }

  static Comparison shared() throws IOException {
    Path file = RealServers.ROOT.resolve("tests/data/requests/comparison.json");
    return new Comparison(Files.readString(file));
  }

  /** Returns where two answers differ. */
  List<String> differences(String method, JsonObject expected, JsonObject got) {
    List<String> found = new ArrayList<>();
    compare("", inOrder(method, expected), inOrder(method, got), found);
    return found;
  }

  private JsonObject inOrder(String method, JsonObject answer) {
    if (!unordered.has(method) || !answer.has("responses")) {
      return answer;
    }
    String field = unordered.get(method).getAsString();
    List<JsonElement> responses = new ArrayList<>(answer.getAsJsonArray("responses").asList());
    responses.sort(
        Comparator.comparingDouble(
            one -> one.getAsJsonObject().has(field) ? one.getAsJsonObject().get(field).getAsDouble() : 0));
    JsonArray sorted = new JsonArray();
    responses.forEach(sorted::add);
    JsonObject ordered = new JsonObject();
    ordered.add("responses", sorted);
    return ordered;
  }

  private void compare(String path, JsonElement expected, JsonElement got, List<String> found) {
    if (expected.isJsonObject() && got.isJsonObject()) {
      Set<String> names = new TreeSet<>(expected.getAsJsonObject().keySet());
      names.addAll(got.getAsJsonObject().keySet());
      names.removeAll(missing);
      for (String name : names) {
        compare(path + "." + name, field(expected, name), field(got, name), found);
      }
    } else if (expected.isJsonArray()
        && got.isJsonArray()
        && expected.getAsJsonArray().size() == got.getAsJsonArray().size()) {
      for (int place = 0; place < expected.getAsJsonArray().size(); place++) {
        compare(
            path + "[" + place + "]",
            expected.getAsJsonArray().get(place),
            got.getAsJsonArray().get(place),
            found);
      }
    } else if (!equal(expected, got)) {
      found.add(path.replaceFirst("^\\.", "") + ": expected " + expected + ", got " + got);
    }
  }

  private static JsonElement field(JsonElement object, String name) {
    JsonElement value = object.getAsJsonObject().get(name);
    return value == null ? JsonNull.INSTANCE : value;
  }

  private boolean equal(JsonElement expected, JsonElement got) {
    if (isNumber(expected) && isNumber(got)) {
      double one = expected.getAsDouble();
      double other = got.getAsDouble();
      double size = Math.max(1, Math.max(Math.abs(one), Math.abs(other)));
      return Math.abs(one - other) <= tolerance * size;
    }
    return !isNumber(expected) && !isNumber(got) && expected.equals(got);
  }

  private static boolean isNumber(JsonElement element) {
    return element.isJsonPrimitive() && element.getAsJsonPrimitive().isNumber();
  }
}
