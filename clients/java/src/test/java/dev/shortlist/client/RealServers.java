package dev.shortlist.client;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/** The servers of tests/vector_server.py, started once; they end with this process. */
final class RealServers {
  static final Path ROOT = Path.of("../..").toAbsolutePath().normalize();
  private static JsonObject found;

  private RealServers() {}

  static synchronized String target(String server) throws IOException {
    return found().getAsJsonObject("servers").get(server).getAsString();
  }

  static synchronized String key(String name) throws IOException {
    return found().getAsJsonObject("keys").get(name).getAsString();
  }

  private static JsonObject found() throws IOException {
    if (found == null) {
      String python = System.getenv("SHORTLIST_PYTHON");
      Process process =
          new ProcessBuilder(
                  python == null ? ROOT.resolve(".venv/bin/python").toString() : python,
                  ROOT.resolve("tests/vector_server.py").toString())
              .redirectError(ProcessBuilder.Redirect.DISCARD)
              .start();
      // It ends when its standard input does, however this process ends; the next tests are to find its ports free.
      Runtime.getRuntime()
          .addShutdownHook(
              new Thread(
                  () -> {
                    try {
                      process.getOutputStream().close();
                      process.waitFor();
                    } catch (IOException | InterruptedException ended) {
                      process.destroy();
                    }
                  }));
      String line =
          new BufferedReader(
                  new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8))
              .readLine();
      if (line == null) {
        throw new IOException("tests/vector_server.py said nothing: `make .venv/.installed`?");
      }
      found = JsonParser.parseString(line).getAsJsonObject();
    }
    return found;
  }
}
