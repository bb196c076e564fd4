import { Body, Controller, Get, Module, Post, Sse, type OnApplicationShutdown } from "@nestjs/common";
import { interval, map, take } from "rxjs";

@Controller()
class AppController implements OnApplicationShutdown {
  @Get()
  hello() {
    return `hello from ${process.pid}`;
  }

  @Post()
  say(@Body("word") word: string) {
    return `${word} from ${process.pid}`;
  }

  @Sse("events")
  events() {
    return interval(100).pipe(
      take(10),
      map((n) => ({ data: `event ${n + 1} from ${process.pid}` })),
    );
  }

  onApplicationShutdown() {
    console.log(`${process.pid} shuts down`);
  }
}

@Module({ controllers: [AppController] })
export class AppModule {}
