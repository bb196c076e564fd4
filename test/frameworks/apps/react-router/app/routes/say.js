export async function action({ request }) {
  return new Response(`${await request.text()} from ${process.pid}`);
}
