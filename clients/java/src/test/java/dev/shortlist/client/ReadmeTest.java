package dev.shortlist.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs the program of the README as its reader would, in a process of its own. */
class ReadmeTest {
  @Test
  void quickStartRuns(@TempDir Path folder) throws Exception {
    Matcher block =
        Pattern.compile("```java\n(import .*?)```", Pattern.DOTALL)
            .matcher(Files.readString(Path.of("README.md")));
    assertTrue(block.find(), "no program in README.md");
    String program = block.group(1).replace("127.0.0.1:8500", RealServers.target("faulty"));
    Path file = Files.writeString(folder.resolve("QuickStart.java"), program);
    Process process =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin/java").toString(),
                "-Dfile.encoding=UTF-8",
                "-Dstdout.encoding=UTF-8",
                "-classpath",
                System.getProperty("java.class.path"),
                file.toString())
            .redirectErrorStream(true)
            .start();
    String printed = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), printed);
    List<String> lines = printed.strip().lines().toList();
    assertEquals(7, lines.size(), printed);
    for (String line : lines.subList(0, 5)) {
      assertTrue(line.matches("i\\d+ Film \\d+ \\S+ \\S+"), line);
    }
    assertEquals(List.of("'': 5 items, last: false", "'diversity': 5 items, last: true"), lines.subList(5, 7));
  }
}
