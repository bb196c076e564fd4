export async function POST(request) {
  return new Response(`${await request.text()} from ${process.pid}`);
}
